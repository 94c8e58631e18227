// The stages of a tokenizer, each behind a small interface. The factory functions read the
// tokenizer.json object of a stage and refuse by name what they do not know; a new component is a
// class and a line in its file's table.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "quell/io/settings.h"
#include "quell/text/tokenizer/aligned_text.h"

namespace quell {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(AlignedText& text) const = 0;
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// Cuts the pieces further, and may change their text.
  virtual void apply(Pieces& pieces) const = 0;
  /// Reads where a piece came from, so that texts must be tracked.
  virtual bool needs_origins() const { return false; }
};

/// A token and the characters of its piece that it stands for.
struct PieceToken {
  std::int32_t id = 0;
  std::uint32_t begin = 0, end = 0;
};

/// Immutable but for caches that lock; may be used from several threads.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// Appends the tokens of one piece, which is not empty.
  virtual void tokenize(std::u32string_view piece, std::vector<PieceToken>& out) const = 0;
  virtual std::optional<std::int32_t> id_of(const std::string& token) const = 0;
  /// Empty for an id that is not in the vocabulary.
  virtual const std::string& token_of(std::int32_t id) const = 0;
  /// The highest id and one.
  virtual std::int32_t vocab_size() const = 0;
  /// Tokens in the vocabulary, which may leave ids out.
  virtual std::int32_t entry_count() const { return vocab_size(); }
  /// Whether two ids can stand for the same text.
  virtual bool repeats_tokens() const { return false; }
  /// The id whose tokens are shown as the text they stand for (Unigram's unknown), or -1.
  virtual std::int32_t id_shown_as_text() const { return -1; }
};

class Decoder {
 public:
  virtual ~Decoder() = default;
  /// Rewrites the tokens in place, so that joined they are the text.
  virtual void apply(std::vector<std::string>& tokens) const = 0;
};

/// Special tokens around one sequence or a pair, and whether spaces are left out of offsets.
struct PostProcessor {
  struct Piece {
    int sequence;  ///< 0 = A, 1 = B, -1 = the special tokens `ids`
    std::int32_t type_id;
    std::vector<std::int32_t> ids;
  };
  std::vector<Piece> single, pair;
  bool trim_offsets = false, add_prefix_space = false;
};

// All throw Error(kInvalidInput | kUnsupported). They take the object of the stage.
std::unique_ptr<Normalizer> make_normalizer(const Settings& json);
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Settings& json);
std::unique_ptr<TokenModel> make_token_model(const Settings& json);
PostProcessor make_post_processor(const Settings& json);
std::unique_ptr<Decoder> make_decoder(const Settings& json);
std::unique_ptr<Decoder> make_default_decoder();  ///< tokens with spaces between

std::unique_ptr<TokenModel> make_word_piece(const Settings& json);
std::unique_ptr<TokenModel> make_bpe(const Settings& json);
std::unique_ptr<TokenModel> make_unigram(const Settings& json);
std::unique_ptr<TokenModel> make_word_level(const Settings& json);
/// SentencePiece's rules compiled into a trie of bytes (base64 of "precompiled_charsmap").
std::unique_ptr<Normalizer> make_precompiled(const Settings& json);

/// token -> id and back, shared by the models. Throws Error(kInvalidInput) on ids that are negative
/// or huge.
struct Vocabulary {
  explicit Vocabulary(const Json& vocab);
  std::unordered_map<std::string, std::int32_t> ids;
  std::vector<std::string> tokens;
  std::optional<std::int32_t> find(const std::string& token) const;
  const std::string& token_of(std::int32_t id) const;
};

/// Every `from` in `text` becomes `to`, in linear time.
void replace_all(std::string& text, std::string_view from, std::string_view to);

/// A member of an object, or null.
const Json& member(const Json& object, const char* key);
std::string type_of(const Settings& stage);
/// One character. Throws Error(kInvalidInput).
char32_t read_character(const Settings& json, const char* key, char32_t fallback);
/// {"String": s} as a literal or {"Regex": r}.
class Regex;
Regex read_pattern(const Json& json);
[[noreturn]] void refuse_component(const char* stage, const std::string& type);

/// A table of a stage's components: `type` as in tokenizer.json.
template <typename Component>
struct ComponentEntry {
  const char* type;
  std::unique_ptr<Component> (*make)(const Settings&);
};
template <typename Component, std::size_t N>
std::vector<std::string> types_of(const ComponentEntry<Component> (&table)[N]) {
  std::vector<std::string> types;
  for (const auto& entry : table) types.emplace_back(entry.type);
  return types;
}
/// The component types of every stage, by the stage's key in tokenizer.json.
std::vector<std::pair<std::string, std::vector<std::string>>> tokenizer_components();
std::vector<std::string> normalizer_types();
std::vector<std::string> pre_tokenizer_types();
std::vector<std::string> token_model_types();
std::vector<std::string> post_processor_types();
std::vector<std::string> decoder_types();

template <typename Component, std::size_t N>
std::unique_ptr<Component> make_from(const ComponentEntry<Component> (&table)[N], const char* stage,
                                     const Settings& json) {
  const std::string type = type_of(json);
  for (const auto& entry : table)
    if (type == entry.type) return entry.make(json);
  refuse_component(stage, type);
}

}  // namespace quell
