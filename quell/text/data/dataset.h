// Data files for calibration and evaluation.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "quell/io/json_fwd.h"
#include "quell/text/data/table_file.h"
#include "quell/text/data/token_batch.h"
#include "quell/text/tokenizer/tokenizer.h"

namespace quell {

/// A data file and how to read it.
struct DataChoice {
  std::filesystem::path file;
  ColumnChoice columns;
};

/// One row: text (one or two), or token ids where the file holds ids.
struct Example {
  std::vector<std::string> texts;
  TokenSequence tokens;
  std::optional<double> label;
  std::size_t line = 0;  ///< of the file, from 1; for arrays and tensors the row
};

/// What a file held: rows, or for .u16 one stream of ids.
struct Dataset {
  std::string source;
  std::vector<Example> examples;
  std::vector<std::int32_t> stream;
  /// The whole of a .txt file, for perplexity over running text.
  std::string raw_text;
  bool holds_ids = false;
};

/// Whether labels are read at all: calibration has no use for them, so it never refuses one.
enum class LabelUse { kRead, kIgnore };

/// By the ending, large or small: .txt (a line a row), .jsonl and .json (objects with text,
/// text_pair, label, or input_ids), .u16 (little-endian ids), .safetensors (input_ids,
/// attention_mask, labels), .csv with commas in its first line and no tab (quoted as in RFC 4180),
/// anything else tab-separated without quoting. Text as text_file.h reads it. Throws Error(kIo |
/// kInvalidInput) naming file, line and column.
Dataset read_dataset(const std::filesystem::path& path, const ColumnChoice& columns,
                     LabelUse labels = LabelUse::kRead);

/// Token ids of `input_ids`, 0 to 2^30 - 1. Throws Error(kInvalidInput) with `where`.
std::vector<std::int32_t> read_ids(const Json& array, const std::string& where);

/// The objects of a .jsonl file, or of a .json file, which holds an array of them or one a line.
/// Throws Error(kIo | kInvalidInput) with the line or the row.
std::vector<Json> read_json_rows(const std::filesystem::path& path);

/// How rows become token sequences.
enum class PairMode {
  kSeparate,
  kPair
};  ///< two sentences (embeddings), or one pair (classifiers)

/// Rows that tokenizers make nothing of, as empty ones: refused, or left out with a warning that
/// counts them.
enum class EmptyRows { kRefuse, kLeaveOut };

/// Tokens of every example (`kSeparate`: of every text, in order). `tokenizer` may be null when the
/// data holds ids; throws Error(kInvalidInput) when it is needed. `max_length` 0: unlimited.
std::vector<TokenSequence> tokenize_examples(const Dataset& data, const Tokenizer* tokenizer,
                                             PairMode mode, std::int64_t max_length,
                                             EmptyRows empty = EmptyRows::kRefuse);

}  // namespace quell
