#include "quell/text/tokenizer/tokenizer.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/text/tokenizer/unicode.h"

namespace quell {
namespace {

/// Calls `on_match(token)` and `on_text(begin, end)` for the leftmost-longest occurrences of `tokens` (longest first) in text.
template <typename Tokens, typename OnText, typename OnMatch>
void split_on(std::u32string_view text, const Tokens& tokens, OnText on_text, OnMatch on_match) {
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto* match = [&]() -> decltype(&*tokens.begin()) {
      for (const auto& token : tokens) {
        if (text[at] != token.content.front() || !text.substr(at).starts_with(token.content)) continue;
        const std::size_t end = at + token.content.size();
        const bool inside_word = (at > 0 && unicode::is_word(text[at - 1])) || (end < text.size() && unicode::is_word(text[end]));
        if (!token.single_word || !inside_word) return &token;
      }
      return nullptr;
    }();
    if (!match) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = at + match->content.size();
    if (match->lstrip)
      while (begin > done && unicode::is_whitespace(text[begin - 1])) --begin;
    if (match->rstrip)
      while (end < text.size() && unicode::is_whitespace(text[end])) ++end;
    if (begin > done) on_text(text.substr(done, begin - done));
    on_match(*match);
    done = at = end;
  }
  if (done < text.size()) on_text(text.substr(done));
}

}  // namespace

void Tokenizer::prepare_added_tokens() {
  std::erase_if(added_, [](const AddedToken& t) { return t.content.empty(); });
  std::stable_sort(added_.begin(), added_.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.content.size() > b.content.size(); });
}

void Tokenizer::tokenize_normalized(std::u32string_view text, std::vector<std::int32_t>& ids) const {
  std::vector<std::u32string> pieces;
  pre_tokenizer_->split(text, pieces);
  for (const std::u32string& piece : pieces) model_->tokenize(piece, ids);
}

/// Text between added tokens that are matched before normalization.
void Tokenizer::tokenize_text(std::u32string_view text, std::vector<std::int32_t>& ids) const {
  const std::u32string normalized = normalizer_ ? normalizer_->apply(text) : std::u32string(text);
  std::vector<AddedToken> candidates;
  for (const AddedToken& token : added_) {
    if (!token.normalized) continue;
    candidates.push_back(token);
    if (normalizer_) candidates.back().content = normalizer_->apply(token.content);
  }
  std::erase_if(candidates, [](const AddedToken& t) { return t.content.empty(); });
  split_on(
      normalized, candidates, [&](std::u32string_view part) { tokenize_normalized(part, ids); },
      [&](const AddedToken& token) { ids.push_back(token.id); });
}

std::vector<std::int32_t> Tokenizer::tokenize(std::string_view text) const {
  std::vector<std::int32_t> ids;
  std::vector<AddedToken> candidates;
  std::copy_if(added_.begin(), added_.end(), std::back_inserter(candidates), [](const AddedToken& t) { return !t.normalized; });
  const std::u32string decoded = unicode::decode(text);
  split_on(
      decoded, candidates, [&](std::u32string_view part) { tokenize_text(part, ids); },
      [&](const AddedToken& token) { ids.push_back(token.id); });
  return ids;
}

Encoding Tokenizer::assemble(std::vector<std::int32_t> a, std::vector<std::int32_t> b, bool pair, std::int64_t max_length,
                             bool add_special_tokens) const {
  static const std::vector<PostProcessor::Piece> kPlainSingle = {{0, 0, {}}}, kPlainPair = {{0, 0, {}}, {1, 1, {}}};
  const bool plain = !add_special_tokens || (pair ? post_processor_.pair : post_processor_.single).empty();
  const auto& pieces = plain ? (pair ? kPlainPair : kPlainSingle) : (pair ? post_processor_.pair : post_processor_.single);
  std::size_t special = 0;
  for (const auto& piece : pieces) special += piece.ids.size();
  if (max_length > 0) {
    const auto limit = static_cast<std::size_t>(max_length);
    require(limit > special, ErrorCode::kUsage, "max_seq_length ", max_length, " leaves no room for text beside ", special,
            " special tokens");
    while (a.size() + b.size() + special > limit) (a.size() >= b.size() ? a : b).pop_back();
  }
  Encoding out;
  for (const auto& piece : pieces) {
    const std::vector<std::int32_t>& source = piece.sequence == 0 ? a : piece.sequence == 1 ? b : piece.ids;
    out.ids.insert(out.ids.end(), source.begin(), source.end());
    out.type_ids.resize(out.ids.size(), piece.type_id);
  }
  return out;
}

Encoding Tokenizer::encode(std::string_view text, std::int64_t max_length, bool add_special_tokens) const {
  return assemble(tokenize(text), {}, false, max_length, add_special_tokens);
}

Encoding Tokenizer::encode_pair(std::string_view first, std::string_view second, std::int64_t max_length) const {
  return assemble(tokenize(first), tokenize(second), true, max_length, true);
}

std::string Tokenizer::decode(const std::vector<std::int32_t>& ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  for (const std::int32_t id : ids) {
    const auto added = std::find_if(added_.begin(), added_.end(), [&](const AddedToken& t) { return t.id == id; });
    if (added != added_.end()) {
      if (!(skip_special_tokens && added->special)) tokens.push_back(added->utf8);
      continue;
    }
    if (const std::string& token = model_->token_of(id); !token.empty()) tokens.push_back(token);
  }
  return decoder_->join(tokens);
}

std::int32_t Tokenizer::vocab_size() const {
  std::int32_t size = model_->vocab_size();
  for (const AddedToken& token : added_) size = std::max(size, token.id + 1);
  return size;
}

}  // namespace quell
