// Texts for commands that answer row by row: read piece by piece, so that their number does not
// matter.
#pragma once

#include <filesystem>
#include <fstream>
#include <istream>
#include <optional>
#include <string>
#include <vector>

#include "quell/text/data/dataset.h"
#include "quell/text/data/text_file.h"

namespace quell {

/// A text a line; an object a line (text, text_pair, or input_ids); or what read_dataset reads as a
/// whole: tables and files of ids.
enum class RowFormat { kLines, kJsonl, kDataset };

struct TextInput {
  std::filesystem::path file;  ///< "" or "-": standard input
  std::optional<RowFormat> format;
  std::vector<std::string> columns;  ///< text columns; empty: the usual names
  bool pairs = false;                ///< a row may hold two texts
};

/// By what the user chose, else by the ending: .jsonl, .json, .safetensors, .tsv and .csv; a file
/// with chosen columns is a table; all else is lines.
RowFormat format_of(const TextInput& input);

/// The rows of a file or of standard input, in order. Empty lines are texts too.
class TextRows {
 public:
  /// `standard_input` has to outlive this where the input is no file. Throws Error(kIo).
  TextRows(TextInput input, std::istream& standard_input);

  struct Row {
    Example example;
    std::size_t number;  ///< of the line, or of the row, from 1
  };
  /// The next rows: at most `most`, fewer where texts are long; none at the end. Throws
  /// Error(kInvalidInput) with the line.
  std::vector<Row> next(std::size_t most);

  /// What messages call the input.
  const std::string& source() const { return source_; }

 private:
  bool next_line(std::string& line);
  Example parse_json_row(const std::string& line) const;
  Example checked(Example example) const;
  std::string here() const { return source_ + ":" + std::to_string(number_); }

  TextInput input_;
  RowFormat format_;
  std::string source_;
  std::ifstream file_;
  std::optional<LineReader> lines_;  ///< of the file or of standard input
  std::vector<Example> whole_;       ///< of a dataset
  std::size_t number_ = 0;           ///< rows or lines read
};

}  // namespace quell
