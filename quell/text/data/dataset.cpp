#include "quell/text/data/dataset.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/io/safetensors.h"
#include "quell/text/data/text_file.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

double parse_label(const std::string& text, const std::vector<std::string>& names,
                   const std::string& where) {
  if (const auto it = std::find(names.begin(), names.end(), text); it != names.end())
    return static_cast<double>(it - names.begin());
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(ec == std::errc() && end == text.data() + text.size() && std::isfinite(value),
          ErrorCode::kInvalidInput, where, ": label \"", text, "\" is not a number");
  return value;
}

void read_table(const std::string& text, bool commas, const ColumnChoice& choice, LabelUse labels,
                Dataset& data) {
  const std::vector<TableRow> rows = commas ? split_commas(text, data.source) : split_tabs(text);
  if (rows.empty()) return;

  const TableColumns columns =
      locate_columns(choice, labels == LabelUse::kRead, rows.front().fields, data.source);
  for (std::size_t i = columns.has_header ? 1 : 0; i < rows.size(); ++i) {
    const TableRow& row = rows[i];
    const std::string where = str(data.source, ":", row.line);
    const auto field = [&](std::size_t at) -> const std::string& {
      require(at < row.fields.size(), ErrorCode::kInvalidInput, where, ": ", row.fields.size(),
              " columns, column ", at + 1, " is needed");
      return row.fields[at];
    };
    Example e;
    e.line = row.line;
    for (const std::size_t at : columns.text) e.texts.push_back(field(at));
    if (columns.label) e.label = parse_label(field(*columns.label), choice.label_names, where);
    data.examples.push_back(std::move(e));
  }
}

/// The keys of a row that hold its text: the chosen ones, else the first of the usual ones that are
/// there.
std::vector<std::string> text_keys(const Json& row, const ColumnChoice& choice,
                                   const std::string& where) {
  if (!choice.text.empty()) return choice.text;
  for (const std::vector<std::string>& usual : usual_text_columns())
    if (std::all_of(usual.begin(), usual.end(),
                    [&](const std::string& key) { return row.contains(key); }))
      return usual;
  throw Error(ErrorCode::kInvalidInput,
              where + ": no string \"text\" or \"sentence\"; choose with --text-column");
}

/// Nothing for null.
std::optional<double> read_label(const Json& label, const ColumnChoice& choice,
                                 const std::string& where) {
  if (label.is_null()) return std::nullopt;
  if (label.is_string()) return parse_label(label.get<std::string>(), choice.label_names, where);
  if (label.is_boolean()) return label.get<bool>() ? 1.0 : 0.0;
  require(label.is_number(), ErrorCode::kInvalidInput, where, ": the label is not a number");
  return label.get<double>();
}

Example read_object(const Json& row, const ColumnChoice& choice, LabelUse labels,
                    const std::string& where) {
  require(row.is_object(), ErrorCode::kInvalidInput, where, ": not an object");
  Example e;
  if (row.contains("input_ids")) {
    e.tokens.ids = read_ids(row["input_ids"], where);
  } else {
    for (const std::string& key : text_keys(row, choice, where)) {
      require(row.contains(key) && row[key].is_string(), ErrorCode::kInvalidInput, where,
              ": no string \"", key, '"');
      e.texts.push_back(row[key].get<std::string>());
    }
  }
  const std::string label = choice.label.empty() ? "label" : choice.label;
  if (labels == LabelUse::kRead && row.contains(label))
    e.label = read_label(row[label], choice, where);
  return e;
}

/// Calls `sink(object, line or row, where)`.
template <typename Sink>
void for_each_json_row(const fs::path& path, const Sink& sink) {
  const std::string text = read_data_text(path), source = path.string();
  const std::size_t first = text.find_first_not_of(" \t\n");
  if (data_ending(path) == ".json" && first != std::string::npos && text[first] == '[') {
    std::size_t number = 0;
    for (const Json& row : parse_json(text, source)) {
      ++number;
      sink(row, number, str(source, ": row ", number));
    }
    return;
  }
  std::size_t number = 0;
  for (const std::string& line : split_lines(text)) {
    ++number;
    const std::string where = str(source, ":", number);
    if (line.find_first_not_of(" \t") != std::string::npos)
      sink(parse_json(line, where), number, where);
  }
}

void read_objects(const fs::path& path, const ColumnChoice& choice, LabelUse labels,
                  Dataset& data) {
  for_each_json_row(path, [&](const Json& row, std::size_t number, const std::string& where) {
    Example e = read_object(row, choice, labels, where);
    e.line = number;
    data.holds_ids |= e.texts.empty();
    data.examples.push_back(std::move(e));
  });
}

void read_lines(std::string text, Dataset& data) {
  std::size_t number = 0;
  for (std::string& line : split_lines(text)) {
    ++number;
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    Example e;
    e.texts.push_back(std::move(line));
    e.line = number;
    data.examples.push_back(std::move(e));
  }
  data.raw_text = std::move(text);
}

void read_safetensors_rows(const fs::path& path, LabelUse use, Dataset& data) {
  const SafetensorsFile file(path);
  const TensorView& view = file.at("input_ids");
  require(view.shape().rank() == 1 || view.shape().rank() == 2, ErrorCode::kInvalidInput,
          data.source, ": input_ids must be [rows, length]");
  const std::vector<std::int32_t> ids = to_i32(view, "input_ids");
  const auto optional = [&](const char* name) {
    if (!file.has(name)) return std::vector<std::int32_t>();
    require(file.at(name).shape() == view.shape(), ErrorCode::kInvalidInput, data.source, ": ",
            name, " and input_ids differ in shape");
    return to_i32(file.at(name), name);
  };
  const std::vector<std::int32_t> mask = optional("attention_mask"),
                                  types = optional("token_type_ids");
  const std::vector<std::int32_t> labels =
      use == LabelUse::kRead ? optional("labels") : std::vector<std::int32_t>();
  const auto length = static_cast<std::size_t>(view.cols());
  for (std::size_t r = 0; r < static_cast<std::size_t>(view.rows()); ++r) {
    Example e;
    e.line = r + 1;
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

void read_id_stream(const fs::path& path, Dataset& data) {
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
}

/// One sequence, or one for each text.
std::vector<TokenSequence> tokenize_example(const Example& e, const std::string& source,
                                            const Tokenizer* tokenizer, PairMode mode,
                                            std::int64_t max_length) {
  if (e.texts.empty()) {
    TokenSequence s = e.tokens;
    const auto limit = static_cast<std::size_t>(max_length);
    for (auto* v : {&s.ids, &s.type_ids, &s.labels})
      if (max_length > 0 && v->size() > limit) v->resize(limit);
    return {std::move(s)};
  }
  require(tokenizer, ErrorCode::kInvalidInput, source,
          ": holds text, and the model directory has no tokenizer");

  std::vector<Encoding> encodings;
  if (mode == PairMode::kPair && e.texts.size() == 2)
    encodings.push_back(tokenizer->encode_pair(e.texts[0], e.texts[1], {.max_length = max_length}));
  else
    for (const std::string& text : e.texts)
      encodings.push_back(tokenizer->encode(text, {.max_length = max_length}));
  std::vector<TokenSequence> out;
  for (Encoding& encoding : encodings)
    out.push_back({std::move(encoding.ids), std::move(encoding.type_ids), {}});
  return out;
}

}  // namespace

std::vector<Json> read_json_rows(const fs::path& path) {
  std::vector<Json> rows;
  for_each_json_row(path, [&](const Json& row, std::size_t, const std::string& where) {
    require(row.is_object(), ErrorCode::kInvalidInput, where, ": not an object");
    rows.push_back(row);
  });
  require(!rows.empty(), ErrorCode::kInvalidInput, path.string(), ": holds no data");
  return rows;
}

std::vector<std::int32_t> read_ids(const Json& array, const std::string& where) {
  require(array.is_array(), ErrorCode::kInvalidInput, where, ": input_ids is not an array");
  std::vector<std::int32_t> ids;
  for (const Json& id : array) {
    require(
        id.is_number_integer() && id.get<std::int64_t>() >= 0 && id.get<std::int64_t>() < (1 << 30),
        ErrorCode::kInvalidInput, where, ": input_ids holds ", id.dump());
    ids.push_back(id.get<std::int32_t>());
  }
  return ids;
}

Dataset read_dataset(const fs::path& path, const ColumnChoice& columns, LabelUse labels) {
  std::error_code ec;
  require(!fs::is_directory(path, ec), ErrorCode::kIo, path.string(),
          ": is a folder, and texts are read from a file");

  Dataset data;
  data.source = path.string();
  const std::string extension = data_ending(path);
  if (extension == ".safetensors") {
    read_safetensors_rows(path, labels, data);
  } else if (extension == ".u16") {
    read_id_stream(path, data);
  } else if (extension == ".jsonl" || extension == ".json") {
    read_objects(path, columns, labels, data);
  } else if (extension == ".txt") {
    read_lines(read_data_text(path), data);
  } else {
    const std::string text = read_data_text(path);
    const std::string_view first = std::string_view(text).substr(0, text.find('\n'));
    const bool commas = extension == ".csv" && first.find('\t') == std::string_view::npos;
    read_table(text, commas, columns, labels, data);
  }
  require(!data.examples.empty() || !data.stream.empty(), ErrorCode::kInvalidInput, data.source,
          ": holds no data");
  return data;
}

std::vector<TokenSequence> tokenize_examples(const Dataset& data, const Tokenizer* tokenizer,
                                             PairMode mode, std::int64_t max_length,
                                             EmptyRows empty) {
  std::vector<TokenSequence> out;
  std::int64_t left_out = 0;
  std::size_t first_left_out = 0;
  for (const Example& e : data.examples)
    for (TokenSequence& s : tokenize_example(e, data.source, tokenizer, mode, max_length)) {
      if (!s.ids.empty()) {
        out.push_back(std::move(s));
        continue;
      }
      require(empty == EmptyRows::kLeaveOut, ErrorCode::kInvalidInput, data.source, ":", e.line,
              ": a row without tokens; remove empty lines");
      if (left_out++ == 0) first_left_out = e.line;
    }
  require(!out.empty(), ErrorCode::kInvalidInput, data.source, ": no row has tokens");
  if (left_out > 0)
    log(LogLevel::kWarning,
        str(data.source, ": ", left_out, " rows without tokens are left out, the first at ",
            first_left_out));
  return out;
}

}  // namespace quell
