#include "quell/vision/label_file.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>
#include <unordered_set>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"

namespace quell {
namespace {

std::vector<std::string> split_at_tabs(std::string_view line) {
  std::vector<std::string> fields;
  while (true) {
    const std::size_t tab = line.find('\t');
    fields.emplace_back(line.substr(0, tab));
    if (tab == std::string_view::npos) return fields;
    line.remove_prefix(tab + 1);
  }
}

std::int32_t parse_class(const std::string& text, const std::string& where) {
  std::int32_t label = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), label);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  require(whole && label >= 0 && label < kMaxClasses, ErrorCode::kInvalidInput, where,
          ": the second column must be a class from 0 to ", kMaxClasses - 1);
  return label;
}

LabelRow parse_row(std::string_view line, const std::string& where) {
  std::vector<std::string> fields = split_at_tabs(line);
  require(fields.size() >= 2, ErrorCode::kInvalidInput, where,
          ": expected the name of an image, a tab and its class");

  LabelRow row;
  row.name = std::move(fields[0]);
  check_image_name(row.name, where);
  row.label = parse_class(fields[1], where);
  row.others.assign(fields.begin() + 2, fields.end());
  return row;
}

}  // namespace

void check_image_name(const std::string& name, const std::string& source) {
  const auto prints = [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; };
  require(!name.empty(), ErrorCode::kInvalidInput, source, ": an image without a name");
  require(std::all_of(name.begin(), name.end(), prints), ErrorCode::kInvalidInput, source,
          ": the name of an image has characters that do not print");
}

LabelFile parse_labels(std::string_view text, const std::string& source) {
  LabelFile labels{source, {}};
  std::unordered_map<std::string, std::size_t> lines;
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());

  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, length);
    text.remove_prefix(std::min(length + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;

    const std::string where = str(source, " line ", number);
    LabelRow row = parse_row(line, where);
    row.line = number;
    const auto [first, is_new] = lines.emplace(row.name, number);
    require(is_new, ErrorCode::kInvalidInput, where, ": \"", row.name, "\" has a class on line ",
            first->second, " already");
    labels.rows.push_back(std::move(row));
  }

  require(!labels.rows.empty(), ErrorCode::kInvalidInput, source, ": no labels in it");
  return labels;
}

LabelFile read_labels(const std::filesystem::path& path) {
  return parse_labels(read_text_file(path, std::size_t{1} << 30), path.string());
}

std::vector<std::int64_t> match_labels(const LabelFile& labels,
                                       const std::vector<std::string>& names,
                                       const std::string& images) {
  std::unordered_map<std::string, std::int64_t> index_of;
  for (std::size_t i = 0; i < names.size(); ++i)
    index_of.emplace(names[i], static_cast<std::int64_t>(i));

  std::vector<std::int64_t> order;
  for (const LabelRow& row : labels.rows) {
    const auto found = index_of.find(row.name);
    require(found != index_of.end(), ErrorCode::kInvalidInput, labels.source, " line ", row.line,
            ": no image \"", row.name, "\" in ", images);
    order.push_back(found->second);
  }
  if (order.size() == names.size()) return order;

  std::unordered_set<std::string> labelled;
  for (const LabelRow& row : labels.rows) labelled.insert(row.name);
  const auto missing = std::find_if(names.begin(), names.end(), [&](const std::string& name) {
    return !labelled.contains(name);
  });
  throw Error(ErrorCode::kInvalidInput,
              str(labels.source, ": ", order.size(), " labels for the ", names.size(),
                  " images of ", images, "; \"", *missing, "\" has none"));
}

}  // namespace quell
