// Tokens beside the model's vocabulary that are found in the text itself ("[MASK]", "<|endoftext|>").
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "quell/text/tokenizer/components.h"
#include "quell/text/tokenizer/trie.h"

namespace quell {

struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool single_word = false, lstrip = false, rstrip = false, normalized = true, special = false;
};

class AddedTokens {
 public:
  AddedTokens() = default;
  /// `list`: added_tokens of tokenizer.json, or null. Tokens with `normalized` are searched for as `normalizer` (may be null)
  /// leaves them. Throws Error(kInvalidInput).
  AddedTokens(const Json& list, const Normalizer* normalizer);

  /// A stretch of text: an added token, or null for text between them.
  struct Part {
    CharRange range;
    const AddedToken* token;
  };
  /// Leftmost-longest occurrences in raw or in normalized text. `parts` covers the text in order.
  void find(std::u32string_view text, bool normalized, std::vector<Part>& parts) const;
  /// Null for ids that are not added tokens.
  const AddedToken* by_id(std::int32_t id) const;
  const std::vector<AddedToken>& all() const { return tokens_; }

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::int32_t, std::size_t> index_;
  Trie raw_, normalized_;
};

}  // namespace quell
