// Grapheme clusters (UAX 29), but for emoji sequences and Indic conjuncts.
#include <algorithm>
#include <iterator>

#include "quell/text/tokenizer/unicode.h"

namespace quell::unicode {
namespace {

/// Characters that never stand at the beginning of a grapheme cluster (Extend, SpacingMark, ZWJ of
/// UAX 29).
bool joins_previous(char32_t c) {
  using enum Category;
  if (c == 0x200C || c == 0x200D || c == 0xFF9E || c == 0xFF9F || c == 0xE33 || c == 0xEB3)
    return true;
  if (c >= 0x1F3FB && c <= 0x1F3FF) return true;
  if (c >= 0xE0020 && c <= 0xE007F) return true;
  if ((c >= 0x1ACF && c <= 0x1ADD) || (c >= 0x1AE0 && c <= 0x1AEB)) return true;  // Unicode 17

  const Category category = unicode::category(c);
  if (category == kMn || category == kMe) return true;
  if (category != kMc) return false;
  static constexpr std::pair<char32_t, char32_t> kNotSpacing[] = {
      {0x102B, 0x102C}, {0x1038, 0x1038}, {0x1062, 0x1064},  {0x1067, 0x106D}, {0x1083, 0x1083},
      {0x1087, 0x108C}, {0x108F, 0x108F}, {0x109A, 0x109C},  {0x1A61, 0x1A61}, {0x1A63, 0x1A64},
      {0xAA7B, 0xAA7B}, {0xAA7D, 0xAA7D}, {0x11720, 0x11721}};
  return std::none_of(std::begin(kNotSpacing), std::end(kNotSpacing),
                      [=](auto range) { return c >= range.first && c <= range.second; });
}

/// Characters that take the next one into their grapheme cluster.
bool joins_next(char32_t c) {
  return (c >= 0x600 && c <= 0x605) || c == 0x6DD || c == 0x70F || c == 0x890 || c == 0x891 ||
         c == 0x8E2 || c == 0xD4E || c == 0x110BD || c == 0x110CD || c == 0x111C2 || c == 0x111C3 ||
         c == 0x1193F || c == 0x11941 || c == 0x11A3A || (c >= 0x11A84 && c <= 0x11A89) ||
         c == 0x11D46 || c == 0x11F02;
}

bool breaks_around(char32_t c) {
  using enum Category;
  const Category category = unicode::category(c);
  return category == kCc || category == kZl || category == kZp ||
         (category == kCf && !joins_next(c) && !joins_previous(c));
}

/// Parts of a Hangul syllable: 1 = leading consonant, 2 = vowel, 3 = trailing consonant, 4 = LV, 5
/// = LVT.
int hangul_part(char32_t c) {
  if ((c >= 0x1100 && c <= 0x115F) || (c >= 0xA960 && c <= 0xA97C)) return 1;
  if ((c >= 0x1160 && c <= 0x11A7) || (c >= 0xD7B0 && c <= 0xD7C6)) return 2;
  if ((c >= 0x11A8 && c <= 0x11FF) || (c >= 0xD7CB && c <= 0xD7FB)) return 3;
  if (c < 0xAC00 || c > 0xD7A3) return 0;
  return (c - 0xAC00) % 28 == 0 ? 4 : 5;
}

bool same_syllable(char32_t a, char32_t b) {
  const int first = hangul_part(a);
  const int second = hangul_part(b);
  if (first == 0 || second == 0) return false;
  if (first == 1) return second != 3;
  if (first == 2 || first == 4) return second == 2 || second == 3;
  return second == 3;
}

}  // namespace

std::vector<std::size_t> grapheme_ends(std::u32string_view text) {
  std::vector<std::size_t> ends;
  for (std::size_t i = 1; i < text.size(); ++i) {
    const char32_t before = text[i - 1];
    const char32_t after = text[i];
    const bool line_break = before == U'\r' && after == U'\n';
    const bool joined =
        !breaks_around(before) && !breaks_around(after) &&
        (joins_previous(after) || joins_next(before) || same_syllable(before, after));
    if (!line_break && !joined) ends.push_back(i);
  }
  if (!text.empty()) ends.push_back(text.size());
  return ends;
}

}  // namespace quell::unicode
