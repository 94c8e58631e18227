#include "quell/text/data/dataset.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/io/safetensors.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = text.starts_with("\xEF\xBB\xBF") ? 3 : 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    lines.push_back(std::move(line));
    at = end + 1;
  }
  return lines;
}

std::vector<std::string> split_tabs(const std::string& line) {
  std::vector<std::string> fields(1);
  for (const char c : line)
    if (c == '\t')
      fields.emplace_back();
    else
      fields.back().push_back(c);
  return fields;
}

double parse_label(const std::string& text, const std::vector<std::string>& names, const std::string& where) {
  if (const auto it = std::find(names.begin(), names.end(), text); it != names.end())
    return static_cast<double>(it - names.begin());
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(ec == std::errc() && end == text.data() + text.size() && std::isfinite(value), ErrorCode::kInvalidInput, where,
          ": label \"", text, "\" is not a number");
  return value;
}

bool is_number(const std::string& text) { return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos; }

/// Positions of the chosen columns; by name they come from the header line.
class Columns {
 public:
  Columns(const ColumnChoice& choice, const std::string& header, const std::string& source) {
    const bool by_number = !choice.text.empty() && is_number(choice.text.front());
    has_header_ = !by_number;
    const std::vector<std::string> names = split_tabs(header);
    const auto locate = [&](const std::string& name) -> std::optional<std::size_t> {
      if (by_number) {
        require(is_number(name) && name.size() < 6 && std::stoul(name) >= 1, ErrorCode::kUsage, source, ": column \"", name,
                "\" is not a number from 1; give all columns by number, or all by name");
        return std::stoul(name) - 1;
      }
      const auto it = std::find(names.begin(), names.end(), name);
      return it == names.end() ? std::nullopt : std::optional<std::size_t>(static_cast<std::size_t>(it - names.begin()));
    };
    const auto need = [&](const std::string& name) {
      const auto at = locate(name);
      require(at.has_value(), ErrorCode::kInvalidInput, source, ": no column \"", name,
              "\" in the header; columns may also be numbers from 1");
      return *at;
    };
    if (!choice.text.empty()) {
      for (const std::string& name : choice.text) text.push_back(need(name));
    } else {
      for (const auto& usual :
           {std::vector<std::string>{"text", "text_pair"}, {"sentence1", "sentence2"}, {"text"}, {"sentence"}}) {
        if (!text.empty() || !std::all_of(usual.begin(), usual.end(), [&](const auto& n) { return locate(n).has_value(); }))
          continue;
        for (const std::string& name : usual) text.push_back(*locate(name));
      }
      require(!text.empty(), ErrorCode::kInvalidInput, source, ": no column named text or sentence; choose with --text-column");
    }
    if (!choice.label.empty())
      label = need(choice.label);
    else if (!by_number)
      label = locate("label");
  }
  std::vector<std::size_t> text;
  std::optional<std::size_t> label;
  bool has_header() const { return has_header_; }

 private:
  bool has_header_ = false;
};

void read_table(const std::string& text, const ColumnChoice& choice, Dataset& data) {
  const std::vector<std::string> lines = split_lines(text);
  if (lines.empty()) return;
  const Columns columns(choice, lines.front(), data.source);
  for (std::size_t i = columns.has_header() ? 1 : 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const std::string where = str(data.source, ":", i + 1);
    const std::vector<std::string> fields = split_tabs(lines[i]);
    const auto field = [&](std::size_t at) -> const std::string& {
      require(at < fields.size(), ErrorCode::kInvalidInput, where, ": ", fields.size(), " columns, column ", at + 1, " is needed");
      return fields[at];
    };
    Example e;
    for (const std::size_t at : columns.text) e.texts.push_back(field(at));
    if (columns.label) e.label = parse_label(field(*columns.label), choice.label_names, where);
    data.examples.push_back(std::move(e));
  }
}

std::vector<std::int32_t> read_ids(const Json& array, const std::string& where) {
  require(array.is_array(), ErrorCode::kInvalidInput, where, ": input_ids is not an array");
  std::vector<std::int32_t> ids;
  for (const Json& id : array) {
    require(id.is_number_integer() && id.get<std::int64_t>() >= 0 && id.get<std::int64_t>() < (1 << 30), ErrorCode::kInvalidInput,
            where, ": input_ids holds ", id.dump());
    ids.push_back(id.get<std::int32_t>());
  }
  return ids;
}

void read_jsonl(const std::string& text, const ColumnChoice& choice, Dataset& data) {
  std::size_t number = 0;
  for (const std::string& line : split_lines(text)) {
    ++number;
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    const std::string where = str(data.source, ":", number);
    const Json row = parse_json(line, where);
    require(row.is_object(), ErrorCode::kInvalidInput, where, ": not an object");
    Example e;
    if (row.contains("input_ids")) {
      e.tokens.ids = read_ids(row["input_ids"], where);
      data.holds_ids = true;
    } else {
      const std::vector<std::string> keys = choice.text.empty() ? std::vector<std::string>{"text", "text_pair"} : choice.text;
      for (const std::string& key : keys)
        if (row.contains(key) || !choice.text.empty() || key == "text") {
          require(row.contains(key) && row[key].is_string(), ErrorCode::kInvalidInput, where, ": no string \"", key, '"');
          e.texts.push_back(row[key].get<std::string>());
        }
    }
    const std::string label = choice.label.empty() ? "label" : choice.label;
    if (row.contains(label)) {
      require(row[label].is_number(), ErrorCode::kInvalidInput, where, ": \"", label, "\" is not a number");
      e.label = row[label].get<double>();
    }
    data.examples.push_back(std::move(e));
  }
}

void read_safetensors_rows(const fs::path& path, Dataset& data) {
  const SafetensorsFile file(path);
  const TensorView& view = file.at("input_ids");
  require(view.shape().rank() == 1 || view.shape().rank() == 2, ErrorCode::kInvalidInput, data.source,
          ": input_ids must be [rows, length]");
  const std::vector<std::int32_t> ids = to_i32(view, "input_ids");
  const auto optional = [&](const char* name) {
    if (!file.has(name)) return std::vector<std::int32_t>();
    require(file.at(name).shape() == view.shape(), ErrorCode::kInvalidInput, data.source, ": ", name,
            " and input_ids differ in shape");
    return to_i32(file.at(name), name);
  };
  const std::vector<std::int32_t> mask = optional("attention_mask"), types = optional("token_type_ids"),
                                  labels = optional("labels");
  const auto length = static_cast<std::size_t>(view.cols());
  for (std::size_t r = 0; r < static_cast<std::size_t>(view.rows()); ++r) {
    Example e;
    for (std::size_t i = r * length; i < (r + 1) * length; ++i) {
      if (!mask.empty() && mask[i] == 0) continue;
      e.tokens.ids.push_back(ids[i]);
      if (!types.empty()) e.tokens.type_ids.push_back(types[i]);
      if (!labels.empty()) e.tokens.labels.push_back(labels[i]);
    }
    data.examples.push_back(std::move(e));
  }
  data.holds_ids = true;
}

}  // namespace

std::vector<Json> read_json_rows(const fs::path& path) {
  std::vector<Json> rows;
  if (path.extension() == ".json") {
    const Json all = read_json_file(path);
    require(all.is_array(), ErrorCode::kInvalidInput, path.string(), ": not an array");
    rows.assign(all.begin(), all.end());
  } else {
    std::size_t number = 0;
    for (const std::string& line : split_lines(read_text_file(path))) {
      ++number;
      if (line.find_first_not_of(" \t") != std::string::npos) rows.push_back(parse_json(line, str(path.string(), ":", number)));
    }
  }
  for (std::size_t i = 0; i < rows.size(); ++i)
    require(rows[i].is_object(), ErrorCode::kInvalidInput, path.string(), ": row ", i + 1, " is not an object");
  require(!rows.empty(), ErrorCode::kInvalidInput, path.string(), ": holds no data");
  return rows;
}

Dataset read_dataset(const fs::path& path, const ColumnChoice& columns) {
  Dataset data;
  data.source = path.string();
  const std::string extension = path.extension().string();
  if (extension == ".safetensors") {
    read_safetensors_rows(path, data);
  } else if (extension == ".u16") {
    const MappedFile file(path);
    require(file.bytes().size() % 2 == 0, ErrorCode::kInvalidInput, data.source,
            ": an odd number of bytes; expected 16-bit token ids");
    data.stream.resize(file.bytes().size() / 2);
    for (std::size_t i = 0; i < data.stream.size(); ++i) {
      std::uint16_t id = 0;
      std::memcpy(&id, file.bytes().data() + 2 * i, 2);
      data.stream[i] = id;
    }
    data.holds_ids = true;
  } else {
    std::string text = read_text_file(path);
    if (extension == ".jsonl") {
      read_jsonl(text, columns, data);
    } else if (extension == ".txt") {
      for (std::string& line : split_lines(text))
        if (line.find_first_not_of(" \t") != std::string::npos) data.examples.push_back({{std::move(line)}, {}, std::nullopt});
      data.raw_text = std::move(text);
    } else {
      read_table(text, columns, data);
    }
  }
  require(!data.examples.empty() || !data.stream.empty(), ErrorCode::kInvalidInput, data.source, ": holds no data");
  return data;
}

std::vector<TokenSequence> tokenize_examples(const Dataset& data, const Tokenizer* tokenizer, PairMode mode,
                                             std::int64_t max_length) {
  std::vector<TokenSequence> out;
  for (const Example& e : data.examples) {
    if (e.texts.empty()) {
      out.push_back(e.tokens);
      TokenSequence& s = out.back();
      const auto limit = static_cast<std::size_t>(max_length);
      for (auto* v : {&s.ids, &s.type_ids, &s.labels})
        if (max_length > 0 && v->size() > limit) v->resize(limit);
      continue;
    }
    require(tokenizer, ErrorCode::kInvalidInput, data.source, ": holds text, and the model directory has no tokenizer");
    const auto push = [&](Encoding encoding) { out.push_back({std::move(encoding.ids), std::move(encoding.type_ids), {}}); };
    if (mode == PairMode::kPair && e.texts.size() == 2) {
      push(tokenizer->encode_pair(e.texts[0], e.texts[1], {.max_length = max_length}));
    } else {
      for (const std::string& text : e.texts) push(tokenizer->encode(text, {.max_length = max_length}));
    }
  }
  for (const TokenSequence& s : out)
    require(!s.ids.empty(), ErrorCode::kInvalidInput, data.source, ": a row without tokens; remove empty lines");
  return out;
}

}  // namespace quell
