#include "quell/text/data/table_file.h"

#include <algorithm>

#include "quell/base/error.h"

namespace quell {
namespace {

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

/// Where a column is, or nothing.
std::optional<std::size_t> locate(const std::string& name, bool by_number,
                                  const std::vector<std::string>& header,
                                  const std::string& source) {
  if (by_number) {
    require(is_number(name) && name.size() < 6 && std::stoul(name) >= 1, ErrorCode::kUsage, source,
            ": column \"", name,
            "\" is not a number from 1; give all columns by number, or all by name");
    return std::stoul(name) - 1;
  }
  const auto it = std::find(header.begin(), header.end(), name);
  if (it == header.end()) return std::nullopt;
  return static_cast<std::size_t>(it - header.begin());
}

}  // namespace

const std::vector<std::vector<std::string>>& usual_text_columns() {
  static const std::vector<std::vector<std::string>> names = {
      {"text", "text_pair"}, {"sentence1", "sentence2"}, {"text"}, {"sentence"}};
  return names;
}

std::vector<TableRow> split_tabs(std::string_view text) {
  std::vector<TableRow> rows;
  std::size_t number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.empty()) continue;

    TableRow row{number, {}};
    for (std::size_t begin = 0; begin <= line.size();) {
      const std::size_t tab = std::min(line.find('\t', begin), line.size());
      row.fields.emplace_back(line.substr(begin, tab - begin));
      begin = tab + 1;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<TableRow> split_commas(std::string_view text, const std::string& source) {
  std::vector<TableRow> rows;
  TableRow row{1, {""}};
  std::size_t line = 1;
  bool quoted = false, was_quoted = false;
  const auto finish = [&] {
    const bool empty = row.fields.size() == 1 && row.fields.front().empty() && !was_quoted;
    if (!empty) rows.push_back(std::move(row));
    row = {line, {""}};
    was_quoted = false;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') ++line;
    if (quoted) {
      if (c != '"') {
        row.fields.back().push_back(c);
      } else if (text.substr(i + 1).starts_with('"')) {
        row.fields.back().push_back('"');
        ++i;
      } else {
        quoted = false;
      }
    } else if (c == '"' && row.fields.back().empty()) {
      quoted = was_quoted = true;
    } else if (c == ',') {
      row.fields.emplace_back();
    } else if (c == '\n') {
      finish();
    } else {
      row.fields.back().push_back(c);
    }
  }
  require(!quoted, ErrorCode::kInvalidInput, source, ":", row.line,
          ": a quoted field that does not end");
  finish();
  return rows;
}

TableColumns locate_columns(const ColumnChoice& choice, bool with_label,
                            const std::vector<std::string>& header, const std::string& source) {
  const bool by_number = !choice.text.empty() && is_number(choice.text.front());
  const auto find = [&](const std::string& name) {
    return locate(name, by_number, header, source);
  };
  const auto need = [&](const std::string& name) {
    const auto at = find(name);
    require(at.has_value(), ErrorCode::kInvalidInput, source, ": no column \"", name,
            "\" in the header; columns may also be numbers from 1");
    return *at;
  };

  TableColumns out{{}, std::nullopt, !by_number};
  for (const std::string& name : choice.text) out.text.push_back(need(name));
  for (const std::vector<std::string>& usual : usual_text_columns()) {
    if (!out.text.empty()) break;
    const bool there = std::all_of(usual.begin(), usual.end(),
                                   [&](const std::string& n) { return find(n).has_value(); });
    if (!there) continue;
    for (const std::string& name : usual) out.text.push_back(*find(name));
  }
  require(!out.text.empty(), ErrorCode::kInvalidInput, source,
          ": no column named text or sentence; choose with --text-column");

  if (!with_label) return out;
  if (!choice.label.empty())
    out.label = need(choice.label);
  else if (!by_number)
    out.label = find("label");
  return out;
}

}  // namespace quell
