// Texts to tokens as a model's files ask for it: prompts, lengths, and the end at which texts are
// cut.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "quell/model/model.h"
#include "quell/text/data/dataset.h"
#include "quell/text/tokenizer/tokenizer.h"

namespace quell {

/// The model's tokenizer with what sentence-transformers and tokenizer_config.json set on it.
/// Throws as Tokenizer::open.
Tokenizer open_tokenizer(const Model& model);
/// The same, or null where `data` holds ids.
std::unique_ptr<Tokenizer> open_tokenizer_for(const Dataset& data, const Model& model);

/// Tokens of a text at most, special ones included: by the model's files, within its positions.
std::int64_t longest_text(const Model& model);

/// The text in front of every text where nothing else is asked for.
std::string default_prompt(const Model& model);
/// Puts the default prompt in front of the texts of `data`. Throws Error(kInvalidInput) where there
/// is one and `data` holds ids.
void prepend_default_prompt(const Model& model, Dataset& data);
/// Tells sequences that were made so how many of their tokens are the prompt's, where a module
/// leaves those out.
void note_default_prompt(const Model& model, const Tokenizer* tokenizer,
                         std::vector<TokenSequence>& sequences);

/// Encodes one text or pair after the other; may be used from several threads. Keeps a reference to
/// `model`.
class TextEncoder {
 public:
  struct Encoded {
    TokenSequence tokens;
    bool cut = false;  ///< longer than max_length()
  };

  /// `max_length` 0: longest_text(model); at most the model's positions. `prompt` goes in front of
  /// every text.
  explicit TextEncoder(const Model& model, std::int64_t max_length = 0, std::string prompt = "");

  Encoded encode(const std::string& text) const;
  /// The prompt goes in front of the first text.
  Encoded encode_pair(const std::string& first, const std::string& second) const;
  /// Of a row: its text, its pair, or its ids, which take no prompt.
  Encoded encode(const Example& row) const;
  /// All rows, on all threads.
  std::vector<Encoded> encode(const std::vector<Example>& rows, ExecContext& ctx) const;
  /// With the place of each token in the text.
  Encoding encode_with_offsets(const std::string& text) const;

  std::int64_t max_length() const { return max_length_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }

 private:
  const Model& model_;
  std::unique_ptr<Tokenizer>
      tokenizer_;  ///< null: the model has none, which matters once there is text
  std::string why_no_tokenizer_;
  std::int64_t max_length_;
  std::string prompt_;
  std::int32_t prompt_length_ = 0;
};

}  // namespace quell
