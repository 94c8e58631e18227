// The stages of a tokenizer, each behind a small interface. One file implements each; factory functions read the
// tokenizer.json object of a stage and refuse by name what they do not know.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "quell/io/json.h"

namespace quell {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual std::u32string apply(std::u32string_view text) const = 0;
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// Appends the pieces of `text` to `out`.
  virtual void split(std::u32string_view text, std::vector<std::u32string>& out) const = 0;
};

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// Appends the ids of one piece.
  virtual void tokenize(std::u32string_view piece, std::vector<std::int32_t>& ids) const = 0;
  virtual std::optional<std::int32_t> id_of(const std::string& token) const = 0;
  /// Empty for an id that is not in the vocabulary.
  virtual const std::string& token_of(std::int32_t id) const = 0;
  virtual std::int32_t vocab_size() const = 0;
};

class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual std::string join(const std::vector<std::string>& tokens) const = 0;
};

/// Special tokens around one sequence or a pair.
struct PostProcessor {
  struct Piece {
    int sequence;  ///< 0 = A, 1 = B, -1 = the special tokens `ids`
    std::int32_t type_id;
    std::vector<std::int32_t> ids;
  };
  std::vector<Piece> single, pair;
};

std::unique_ptr<Normalizer> make_bert_normalizer(bool clean_text, bool handle_chinese_chars, bool strip_accents, bool lowercase);
std::unique_ptr<PreTokenizer> make_bert_pre_tokenizer();
std::unique_ptr<PreTokenizer> make_byte_level_pre_tokenizer(bool add_prefix_space, bool use_regex);
/// `vocab`: token -> id. Throws Error(kInvalidInput).
std::unique_ptr<TokenModel> make_word_piece(const Json& vocab, const std::string& unk_token, const std::string& prefix,
                                            std::int64_t max_input_chars_per_word);
/// `merges`: "a b" strings or ["a", "b"] pairs, best first.
std::unique_ptr<TokenModel> make_byte_level_bpe(const Json& vocab, const Json& merges, bool ignore_merges);
std::unique_ptr<Decoder> make_word_piece_decoder(const std::string& prefix, bool cleanup);
std::unique_ptr<Decoder> make_byte_level_decoder();

/// token -> id and back, shared by the models. Throws Error(kInvalidInput) on ids that are negative, huge or used twice.
struct Vocabulary {
  explicit Vocabulary(const Json& vocab);
  std::unordered_map<std::string, std::int32_t> ids;
  std::vector<std::string> tokens;
  std::optional<std::int32_t> find(const std::string& token) const;
  const std::string& token_of(std::int32_t id) const;
};

}  // namespace quell
