// Data files for calibration and evaluation.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "quell/io/json.h"
#include "quell/text/data/token_batch.h"
#include "quell/text/tokenizer/tokenizer.h"

namespace quell {

/// Columns by header name, or by number from 1 (then the file has no header). Empty: the usual names.
struct ColumnChoice {
  std::vector<std::string> text;  ///< one or two
  std::string label;
  std::vector<std::string> label_names = {};  ///< labels that are words, by class; numbers always work
};

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
};

/// What a file held: rows, or for .u16 one stream of ids.
struct Dataset {
  std::string source;
  std::vector<Example> examples;
  std::vector<std::int32_t> stream;
  /// The bytes of a .txt file, for perplexity over running text.
  std::string raw_text;
  bool holds_ids = false;
};

/// By extension: .txt (a line a row), .jsonl (text, text_pair, label, input_ids), .u16 (little-endian ids), .safetensors
/// (input_ids, attention_mask, labels), anything else tab-separated without quoting.
/// Throws Error(kIo | kInvalidInput) naming file, line and column.
Dataset read_dataset(const std::filesystem::path& path, const ColumnChoice& columns);

/// The objects of a .jsonl file, or of the array in a .json file. Throws Error(kIo | kInvalidInput) with the line.
std::vector<Json> read_json_rows(const std::filesystem::path& path);

/// How rows become token sequences.
enum class PairMode { kSeparate, kPair };  ///< two sentences (embeddings), or one pair (classifiers)

/// Tokens of every example (`kSeparate`: of every text, in order). `tokenizer` may be null when the data holds ids; throws
/// Error(kInvalidInput) when it is needed. `max_length` 0: unlimited.
std::vector<TokenSequence> tokenize_examples(const Dataset& data, const Tokenizer* tokenizer, PairMode mode,
                                             std::int64_t max_length);

}  // namespace quell
