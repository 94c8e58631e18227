// What embed, classify and rerank share: a model, an engine, rows of text, and numbers written out.
#pragma once

#include <filesystem>
#include <istream>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "quell/base/exec_context.h"
#include "quell/engine/engines.h"
#include "quell/io/output_file.h"
#include "quell/model/text_encoder.h"
#include "quell/text/data/text_rows.h"

namespace quell {

struct TextJob {
  ModelDirectory model_dir;
  std::string engine;  ///< empty: integer for quantized models, float otherwise
  TextInput input;
  std::int64_t max_seq_length = 0;  ///< 0: the model's own
};

/// "integer" or "float", where the user has not chosen.
std::string engine_name(const TextJob& job, const Model& model);

/// Rows that are handed to the model together: enough for full batches, few enough for memory.
inline constexpr std::size_t kRowsAtOnce = 4096;

/// Counts what was cut, and says so once.
class CutCount {
 public:
  CutCount(const TextEncoder& encoder, std::string what)
      : max_length_(encoder.max_length()), what_(std::move(what)) {}
  void add(const std::vector<TextEncoder::Encoded>& encoded);
  /// "3 of 100 texts were longer than 512 tokens and were cut", where any was.
  void report() const;

 private:
  std::int64_t max_length_;
  std::string what_;  ///< "texts"
  std::int64_t all_ = 0, cut_ = 0;
};

/// The token sequences of `encoded`, checked: throws Error(kInvalidInput) with the row at one
/// without tokens, or with an id outside the vocabulary.
std::vector<TokenSequence> sequences_of(const Model& model,
                                        std::vector<TextEncoder::Encoded>& encoded,
                                        const std::vector<TextRows::Row>& rows,
                                        const std::string& source);

std::vector<Example> examples_of(const std::vector<TextRows::Row>& rows);

/// Throws Error(kUnsupported) for models that read images.
void require_text_model(const Model& model);

/// Appends a number in the fewest digits that give the same f32 again.
void append_number(std::string& text, float value);
/// Appends a JSON string.
void append_string(std::string& text, const std::string& value);

/// A file, or standard output where there is none.
class ResultStream {
 public:
  ResultStream(const std::filesystem::path& file, std::ostream& standard_output);
  void write(const void* data, std::size_t size);
  void write(const std::string& text) { write(text.data(), text.size()); }
  /// The file appears. Throws Error(kIo).
  void commit();

 private:
  std::unique_ptr<OutputFile> file_;
  std::ostream& out_;
};

}  // namespace quell
