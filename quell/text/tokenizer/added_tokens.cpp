#include "quell/text/tokenizer/added_tokens.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/log.h"

namespace quell {
namespace {

AddedToken read_added_token(const Settings& json) {
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

AddedTokens::AddedTokens(const std::vector<Settings>& list, const TokenModel& model,
                         const Normalizer* normalizer) {
  std::int32_t next = model.entry_count();
  std::unordered_map<std::string, std::size_t> by_content;
  for (const Settings& json : list) {
    AddedToken token = read_added_token(json);
    if (token.content.empty()) continue;

    const auto known = by_content.find(token.content);
    if (known != by_content.end()) {  // stated again: the later flags count
      AddedToken& earlier = tokens_[known->second];
      token.id = earlier.id;
      token.special |= earlier.special;
      earlier = std::move(token);
      continue;
    }
    const std::int32_t stated = token.id;
    token.id = model.id_of(token.content).value_or(next);
    next = std::max(next, token.id + 1);
    if (token.id != stated)
      log_once(LogLevel::kWarning, json.file() + ": added token \"" + token.content +
                                       "\" is stated as " + std::to_string(stated) +
                                       "; like the tokenizers library, Quell gives it " +
                                       std::to_string(token.id));
    by_content[token.content] = tokens_.size();
    index_[token.id] = tokens_.size();
    tokens_.push_back(std::move(token));
  }

  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    AlignedText text(unicode::decode(tokens_[i].content), 0, false);
    if (tokens_[i].normalized && normalizer) normalizer->apply(text);
    if (!text.empty())
      (tokens_[i].normalized ? normalized_ : raw_)
          .insert(text.text(), static_cast<std::int32_t>(i));
    tokens_[i].decoded = unicode::encode(text.text());
  }

  // The library asks for the decoded text among the special tokens: one that normalization changes
  // is not found, and stays.
  for (const AddedToken& token : tokens_)
    if (token.special) special_.insert(token.content);
  for (AddedToken& token : tokens_) token.skipped = is_special(token.decoded);
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
    if (r.begin < done || (token.single_word && inside_word(text, r)) ||
        (token.special && leave_special_))
      continue;
    while (token.lstrip && r.begin > done && unicode::is(text[r.begin - 1], unicode::kWhitespace))
      --r.begin;
    while (token.rstrip && r.end < text.size() && unicode::is(text[r.end], unicode::kWhitespace))
      ++r.end;
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
