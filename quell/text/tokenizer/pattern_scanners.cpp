#include "quell/text/tokenizer/pattern_scanners.h"

#include <algorithm>

#include "quell/text/tokenizer/steps.h"
#include "quell/text/tokenizer/unicode.h"

namespace quell {
namespace {

constexpr unsigned kKinds = unicode::kLetter | unicode::kNumber | unicode::kWhitespace;
unsigned kind_of(char32_t c) { return unicode::classes(c) & kKinds; }

/// No further than `limit`.
std::size_t run_end(std::u32string_view t, std::size_t at, unsigned kind, std::size_t limit) {
  const std::size_t begin = at;
  limit = std::min(limit, t.size());
  while (at < limit && kind_of(t[at]) == kind) ++at;
  pattern_steps() += at - begin + 1;
  return at;
}
std::size_t run_end(std::u32string_view t, std::size_t at, unsigned kind) {
  return run_end(t, at, kind, t.size());
}

/// Characters of an English contraction behind the apostrophe, or 0.
std::size_t contraction(std::u32string_view rest, bool any_case) {
  const auto at = [&](std::size_t i) -> char32_t {
    if (i >= rest.size()) return 0;
    const char32_t c = rest[i];
    if (!any_case) return c;
    return c == 0x17F ? U's' : c >= 'A' && c <= 'Z' ? c + 32 : c;  // U+017F folds to s
  };
  const char32_t first = at(0), second = at(1);
  if (first == U's' || first == U't' || first == U'm' || first == U'd') return 1;
  const bool two =
      ((first == U'r' || first == U'v') && second == U'e') || (first == U'l' && second == U'l');
  return two ? 2 : 0;
}

/// White space from `at`: all of it at the end of the text, else all but the last, which goes with
/// the word behind it.
std::size_t space_end(std::u32string_view t, std::size_t at) {
  const std::size_t end = run_end(t, at, unicode::kWhitespace);
  return end < t.size() && end - at > 1 ? end - 1 : end;
}

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::size_t gpt2_match_end(std::u32string_view t, std::size_t at) {
  if (t[at] == U'\'')
    if (const std::size_t n = contraction(t.substr(at + 1), false)) return at + 1 + n;
  const std::size_t begin = t[at] == U' ' && at + 1 < t.size() ? at + 1 : at;
  const unsigned kind = kind_of(t[begin]);
  return kind == unicode::kWhitespace ? space_end(t, at) : run_end(t, begin, kind);
}

constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

template <std::size_t kDigits>
std::size_t tiktoken_match_end(std::u32string_view t, std::size_t at) {
  const auto is_break = [](char32_t c) { return c == U'\r' || c == U'\n'; };
  if (t[at] == U'\'')
    if (const std::size_t n = contraction(t.substr(at + 1), true)) return at + 1 + n;
  const unsigned kind = kind_of(t[at]),
                 next = at + 1 < t.size() ? kind_of(t[at + 1]) : unsigned{unicode::kWhitespace};
  if (kind == unicode::kLetter) return run_end(t, at, unicode::kLetter);
  if (kind == unicode::kNumber) return run_end(t, at, unicode::kNumber, at + kDigits);
  if (next == unicode::kLetter && !is_break(t[at])) return run_end(t, at + 1, unicode::kLetter);
  if (kind == 0 || (t[at] == U' ' && next == 0)) {
    std::size_t end = run_end(t, kind == 0 ? at : at + 1, 0);
    while (end < t.size() && is_break(t[end])) ++end;
    return end;
  }
  std::size_t last = run_end(t, at, unicode::kWhitespace);
  while (last > at && !is_break(t[last - 1])) --last;
  return last > at ? last : space_end(t, at);
}

}  // namespace

MatchEnd gpt2_scanner() { return gpt2_match_end; }

MatchEnd find_scanner(const std::string& pattern) {
  static constexpr std::pair<std::string_view, MatchEnd> kScanners[] = {
      {kGpt2Pattern, gpt2_match_end},
      {kLlama3Pattern, tiktoken_match_end<3>},
      {kQwen2Pattern, tiktoken_match_end<1>}};
  for (const auto& [known, scanner] : kScanners)
    if (pattern == known) return scanner;
  return nullptr;
}

}  // namespace quell
