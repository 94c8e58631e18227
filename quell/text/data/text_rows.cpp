#include "quell/text/data/text_rows.h"

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/unicode.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kMostBytes = 16U << 20;  // of the texts that are handed over at once

bool is_standard_input(const fs::path& file) { return file.empty() || file == "-"; }

}  // namespace

RowFormat format_of(const TextInput& input) {
  if (input.format) return *input.format;
  const std::string ending = is_standard_input(input.file) ? "" : data_ending(input.file);
  if (ending == ".jsonl") return RowFormat::kJsonl;
  const bool whole = ending == ".safetensors" || ending == ".json" || ending == ".tsv" ||
                     ending == ".csv" || !input.columns.empty();
  return whole ? RowFormat::kDataset : RowFormat::kLines;
}

TextRows::TextRows(TextInput input, std::istream& standard_input)
    : input_(std::move(input)),
      format_(format_of(input_)),
      source_(is_standard_input(input_.file) ? "input" : input_.file.string()) {
  if (format_ == RowFormat::kDataset) {
    require(
        !is_standard_input(input_.file), ErrorCode::kUsage,
        "columns are read from files alone; standard input holds a text or a JSON object a line");
    require(
        input_.columns.empty() || data_ending(input_.file) != ".txt", ErrorCode::kUsage, source_,
        ": lines of text, which have no columns; leave out --text-column, or name a table .tsv");
    whole_ = read_dataset(input_.file, {input_.columns, "", {}}, LabelUse::kIgnore).examples;
    return;
  }
  if (is_standard_input(input_.file)) {
    lines_.emplace(standard_input, source_);
    return;
  }
  std::error_code ec;
  require(!fs::is_directory(input_.file, ec), ErrorCode::kIo, source_,
          ": a directory; expected a file of texts");
  file_.open(input_.file, std::ios::binary);
  require(file_.good(), ErrorCode::kIo, source_, ": cannot open");
  lines_.emplace(file_, source_);
}

bool TextRows::next_line(std::string& line) {
  if (!lines_->next(line)) return false;
  ++number_;
  require(unicode::is_valid_utf8(line), ErrorCode::kInvalidInput, here(),
          ": not UTF-8; convert the text, as with iconv -f WINDOWS-1252 -t UTF-8, if that is what "
          "wrote it");
  return true;
}

Example TextRows::parse_json_row(const std::string& line) const {
  const Json row = parse_json(line, here());
  require(row.is_object(), ErrorCode::kInvalidInput, here(), ": not an object");
  Example example;
  if (input_.columns.empty() && row.contains("input_ids")) {
    example.tokens.ids = read_ids(row["input_ids"], here());
    if (row.contains("token_type_ids"))
      example.tokens.type_ids = read_ids(row["token_type_ids"], here());
    return example;
  }

  std::vector<std::string> keys = input_.columns;
  if (keys.empty()) {
    keys = {"text"};
    if (input_.pairs && row.contains("text_pair")) keys.emplace_back("text_pair");
  }
  for (const std::string& key : keys) {
    require(row.contains(key) && row[key].is_string(), ErrorCode::kInvalidInput, here(),
            ": no string \"", key, "\"; choose another key with --text-column");
    example.texts.push_back(row[key].get<std::string>());
  }
  return example;
}

Example TextRows::checked(Example example) const {
  require(input_.pairs || example.texts.size() < 2, ErrorCode::kUsage, here(),
          ": two texts in a row; choose one with --text-column");
  const std::size_t types = example.tokens.type_ids.size();
  require(types == 0 || types == example.tokens.ids.size(), ErrorCode::kInvalidInput, here(),
          ": token_type_ids and input_ids differ in length");
  return example;
}

std::vector<TextRows::Row> TextRows::next(std::size_t most) {
  std::vector<Row> rows;
  if (format_ == RowFormat::kDataset) {
    for (; rows.size() < most && number_ < whole_.size(); ++number_)
      rows.push_back({checked(std::move(whole_[number_])), number_ + 1});
    return rows;
  }

  std::size_t bytes = 0;
  for (std::string line; rows.size() < most && bytes < kMostBytes && next_line(line);) {
    bytes += line.size();
    if (format_ == RowFormat::kLines) {
      rows.push_back({{{std::move(line)}, {}, std::nullopt}, number_});
      continue;
    }
    if (line.find_first_not_of(" \t") == std::string::npos) continue;  // no object at all
    rows.push_back({checked(parse_json_row(line)), number_});
  }
  return rows;
}

}  // namespace quell
