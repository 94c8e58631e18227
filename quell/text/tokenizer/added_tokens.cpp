#include "quell/text/tokenizer/added_tokens.h"

#include "quell/base/error.h"

namespace quell {
namespace {

AddedToken read_added_token(const Json& json) {
  AddedToken token;
  token.id = static_cast<std::int32_t>(json_int(json, "id", 0, 1 << 26));
  token.content = json_string(json, "content", "");
  token.special = json_bool(json, "special", false);
  token.normalized = json_bool(json, "normalized", !token.special);
  token.single_word = json_bool(json, "single_word", false);
  token.lstrip = json_bool(json, "lstrip", false);
  token.rstrip = json_bool(json, "rstrip", false);
  return token;
}

bool inside_word(std::u32string_view text, CharRange r) {
  return (r.begin > 0 && unicode::is(text[r.begin - 1], unicode::kWord)) ||
         (r.end < text.size() && unicode::is(text[r.end], unicode::kWord));
}

}  // namespace

AddedTokens::AddedTokens(const Json& list, const Normalizer* normalizer) {
  require(list.is_null() || list.is_array(), ErrorCode::kInvalidInput, "tokenizer: added_tokens is not an array");
  for (const Json& json : list) {
    AddedToken token = read_added_token(json);
    if (token.content.empty()) continue;
    const auto index = static_cast<std::int32_t>(tokens_.size());
    AlignedText text(unicode::decode(token.content), 0, false);
    if (token.normalized && normalizer) normalizer->apply(text);
    if (!text.empty()) (token.normalized ? normalized_ : raw_).insert(text.text(), index);
    index_[token.id] = static_cast<std::size_t>(index);
    tokens_.push_back(std::move(token));
  }
}

void AddedTokens::find(std::u32string_view text, bool normalized, std::vector<Part>& parts) const {
  const Trie& trie = normalized ? normalized_ : raw_;
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size() && !trie.empty();) {
    const Trie::Match match = trie.longest(text.substr(at));
    if (match.length == 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<std::size_t>(match.value)];
    CharRange r{at, at + match.length};
    at = r.end;
    if (r.begin < done || (token.single_word && inside_word(text, r))) continue;
    while (token.lstrip && r.begin > done && unicode::is(text[r.begin - 1], unicode::kWhitespace)) --r.begin;
    while (token.rstrip && r.end < text.size() && unicode::is(text[r.end], unicode::kWhitespace)) ++r.end;
    if (r.begin > done) parts.push_back({{done, r.begin}, nullptr});
    parts.push_back({r, &token});
    done = r.end;
  }
  if (done < text.size()) parts.push_back({{done, text.size()}, nullptr});
}

const AddedToken* AddedTokens::by_id(std::int32_t id) const {
  const auto it = index_.find(id);
  return it == index_.end() ? nullptr : &tokens_[it->second];
}

}  // namespace quell
