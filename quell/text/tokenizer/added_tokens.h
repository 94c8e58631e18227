// Tokens beside the model's vocabulary that are found in the text itself ("[MASK]",
// "<|endoftext|>").
#pragma once

#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "quell/text/tokenizer/components.h"
#include "quell/text/tokenizer/trie.h"

namespace quell {

struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool single_word = false, lstrip = false, rstrip = false, normalized = true, special = false;

  std::string decoded;   ///< what ids become again: the content, normalized where that is how it is
                         ///< searched for
  bool skipped = false;  ///< left out of decoded text along with special tokens
};

class AddedTokens {
 public:
  AddedTokens() = default;
  /// `list`: added_tokens of tokenizer.json. A token that `model` knows has its id there, another
  /// one the next id behind the vocabulary, whatever the list says (as in the tokenizers library).
  /// Tokens with `normalized` are searched for as `normalizer` (may be null) leaves them. Throws
  /// Error(kInvalidInput).
  AddedTokens(const std::vector<Settings>& list, const TokenModel& model,
              const Normalizer* normalizer);

  /// Special tokens in a text are text like any other.
  void leave_special_tokens() { leave_special_ = true; }

  /// A stretch of text: an added token, or null for text between them.
  struct Part {
    CharRange range;
    const AddedToken* token;
  };
  /// Leftmost-longest occurrences in raw or in normalized text. `parts` covers the text in order.
  void find(std::u32string_view text, bool normalized, std::vector<Part>& parts) const;
  /// Null for ids that are not added tokens.
  const AddedToken* by_id(std::int32_t id) const;
  /// Whether a text is that of a special token.
  bool is_special(const std::string& text) const { return special_.contains(text); }
  const std::vector<AddedToken>& all() const { return tokens_; }

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::int32_t, std::size_t> index_;
  std::unordered_set<std::string> special_;
  Trie raw_, normalized_;
  bool leave_special_ = false;
};

}  // namespace quell
