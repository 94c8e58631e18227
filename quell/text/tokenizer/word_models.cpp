// Models that look words up: WordPiece (Devlin et al. 2019) and WordLevel; and how a model is
// chosen.
#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/components.h"
#include "quell/text/tokenizer/trie.h"

namespace quell {
namespace {

class VocabularyModel : public TokenModel {
 public:
  VocabularyModel(const Settings& json, const char* default_unk) : vocab_(json.value("vocab")) {
    const std::string unk = json_string(json, "unk_token", default_unk);
    const auto id = vocab_.find(unk);
    require(id.has_value(), ErrorCode::kInvalidInput, "tokenizer: unknown token \"", unk,
            "\" is not in the vocabulary");
    unk_ = *id;
  }
  std::optional<std::int32_t> id_of(const std::string& token) const override {
    return vocab_.find(token);
  }
  const std::string& token_of(std::int32_t id) const override { return vocab_.token_of(id); }
  std::int32_t vocab_size() const override {
    return static_cast<std::int32_t>(vocab_.tokens.size());
  }
  std::int32_t entry_count() const override { return static_cast<std::int32_t>(vocab_.ids.size()); }

 protected:
  Vocabulary vocab_;
  std::int32_t unk_ = 0;
};

class WordPiece final : public VocabularyModel {
 public:
  explicit WordPiece(const Settings& json)
      : VocabularyModel(json, "[UNK]"),
        max_chars_(
            static_cast<std::size_t>(json_int(json, "max_input_chars_per_word", 1, 1 << 20, 100))) {
    for (const auto& [token, id] : vocab_.ids) trie_.insert(unicode::decode(token), id);
    continuing_ = trie_.find(unicode::decode(json_string(json, "continuing_subword_prefix", "##")));
  }

  /// Greedy longest match from the left; a word that does not come out whole is one unknown token.
  void tokenize(std::u32string_view piece, std::vector<PieceToken>& out) const override {
    const std::size_t first = out.size();
    for (std::size_t begin = 0; begin < piece.size() && piece.size() <= max_chars_;) {
      const std::int32_t node = begin > 0 ? continuing_ : 0;
      const Trie::Match match = node < 0 ? Trie::Match{} : trie_.longest(piece.substr(begin), node);
      if (match.length == 0) break;
      out.push_back({match.value, static_cast<std::uint32_t>(begin),
                     static_cast<std::uint32_t>(begin + match.length)});
      begin += match.length;
    }
    if (out.size() > first && out.back().end == piece.size()) return;
    out.resize(first);
    out.push_back({unk_, 0, static_cast<std::uint32_t>(piece.size())});
  }

 private:
  Trie trie_;
  std::int32_t continuing_ = -1;  ///< node of the prefix of continuing pieces
  std::size_t max_chars_;
};

class WordLevel final : public VocabularyModel {
 public:
  explicit WordLevel(const Settings& json) : VocabularyModel(json, "<unk>") {}
  void tokenize(std::u32string_view piece, std::vector<PieceToken>& out) const override {
    out.push_back({vocab_.find(unicode::encode(piece)).value_or(unk_), 0,
                   static_cast<std::uint32_t>(piece.size())});
  }
};

constexpr ComponentEntry<TokenModel> kTokenModels[] = {{"WordPiece", make_word_piece},
                                                       {"BPE", make_bpe},
                                                       {"Unigram", make_unigram},
                                                       {"WordLevel", make_word_level}};

}  // namespace

std::vector<std::string> token_model_types() { return types_of(kTokenModels); }

std::unique_ptr<TokenModel> make_word_piece(const Settings& json) {
  return std::make_unique<WordPiece>(json);
}
std::unique_ptr<TokenModel> make_word_level(const Settings& json) {
  return std::make_unique<WordLevel>(json);
}

std::unique_ptr<TokenModel> make_token_model(const Settings& json) {
  if (!type_of(json).empty()) return make_from(kTokenModels, "model", json);
  // Older files name no type; the members tell.
  if (json.contains("merges")) return make_bpe(json);
  if (json.contains("max_input_chars_per_word")) return make_word_piece(json);
  return json.value("vocab").is_array() ? make_unigram(json) : make_word_level(json);
}

}  // namespace quell
