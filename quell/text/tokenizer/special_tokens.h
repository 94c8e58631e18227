// Added and special tokens from the files beside a tokenizer, merged as transformers (5.24) merges
// them.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "quell/io/model_directory.h"

namespace quell {

/// A token as a file states it: a string, or an object with flags, of which some may be missing.
struct SpecialToken {
  std::string content;
  std::optional<bool> single_word, lstrip, rstrip, normalized, special;
  bool plain = true;  ///< a string

  bool is_special() const { return special.value_or(false); }
  bool is_normalized() const { return normalized.value_or(!is_special()); }
  bool operator==(const SpecialToken& other) const;
  static SpecialToken with_flags(std::string content);
};

/// From a string or an AddedToken object. `what` names it in messages. Throws Error(kInvalidInput).
SpecialToken read_special_token(const Json& json, const std::string& what);

/// The order in which transformers goes through its special tokens.
inline constexpr const char* kNamedTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                               "pad_token", "cls_token", "mask_token"};

/// A named special token: not mentioned, null, or a token.
struct NamedToken {
  bool mentioned = false;
  std::string file;  ///< that mentions it
  std::optional<SpecialToken> token;
};

/// What tokenizer_config.json, special_tokens_map.json, added_tokens.json and the added tokens of
/// tokenizer.json say together.
struct TokenSettings {
  std::map<std::string, NamedToken> named;  ///< by kNamedTokens
  std::vector<std::pair<std::string, SpecialToken>>
      model_specific;                              ///< other keys that end in "_token"
  std::optional<std::vector<SpecialToken>> extra;  ///< extra_special_tokens; be it empty
  std::optional<std::vector<SpecialToken>>
      additional;                              ///< those that a class may set or change itself
  std::map<std::int64_t, SpecialToken> added;  ///< by the id that the file states
};

/// `config`: tokenizer_config.json. `added_in_tokenizer`: added_tokens of tokenizer.json, or null.
/// Throws Error(kIo | kInvalidInput).
TokenSettings read_token_settings(const ModelDirectory& directory, const Settings& config,
                                  const Json& added_in_tokenizer);

/// Tokens beside a vocabulary, with the ids that the tokenizers library gives them: those of the
/// vocabulary, else the next free one.
class AddedVocabulary {
 public:
  /// `vocab`: an object token -> id, or a list of [piece, score]; it stays where it is as long as
  /// ids are asked for.
  explicit AddedVocabulary(const Json& vocab);

  /// Adds the token, or changes the flags of one that is there already.
  void add(const SpecialToken& token);
  bool contains(const std::string& content) const { return index_.contains(content); }
  std::optional<std::int64_t> id_of(const std::string& content) const;
  /// As added_tokens of tokenizer.json.
  Json list() const;

 private:
  struct Entry {
    std::int64_t id;
    SpecialToken token;
    bool special;  ///< was special once, which is enough for the library
  };
  std::optional<std::int64_t> find_in_vocabulary(const std::string& content) const;

  const Json* vocab_;
  std::unordered_map<std::string_view, std::int64_t> pieces_;  ///< of a list
  std::int64_t next_ = 0;  ///< id of the next token that is not in the vocabulary
  std::vector<Entry> entries_;
  std::map<std::string, std::size_t> index_;
};

}  // namespace quell
