// Rows of tables in text: fields between tabs as they stand, or between commas with quotes (RFC
// 4180).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace quell {

/// Columns by header name, or by number from 1 (then the file has no header). Empty: the usual
/// names.
struct ColumnChoice {
  std::vector<std::string> text;  ///< one or two
  std::string label;
  std::vector<std::string> label_names =
      {};  ///< labels that are words, by class; numbers always work
};

/// Names of text columns that are looked for where none is chosen, in this order.
const std::vector<std::vector<std::string>>& usual_text_columns();

struct TableRow {
  std::size_t line = 0;  ///< of the file, from 1
  std::vector<std::string> fields;
};

/// The rows of `text` but for empty lines. `source` names it in messages. Throws
/// Error(kInvalidInput) where a quote is not closed.
std::vector<TableRow> split_tabs(std::string_view text);
std::vector<TableRow> split_commas(std::string_view text, const std::string& source);

/// Positions of the chosen columns; by name they come from the header line.
struct TableColumns {
  std::vector<std::size_t> text;
  std::optional<std::size_t> label;
  bool has_header = false;
};
/// `with_label` false: the choice of a label column is not looked at. Throws Error(kInvalidInput |
/// kUsage).
TableColumns locate_columns(const ColumnChoice& choice, bool with_label,
                            const std::vector<std::string>& header, const std::string& source);

}  // namespace quell
