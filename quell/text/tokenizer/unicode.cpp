#include "quell/text/tokenizer/unicode.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/uscript.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>
#include <memory>

#include "quell/base/error.h"
#include "quell/text/tokenizer/unicode_tables.h"

namespace quell::unicode {
namespace {

bool in_cjk_block(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/// The bits of kClassRuns above the category.
enum Bit : std::uint32_t { kBitWord = 32, kBitPunctuation = 64, kBitOther = 128, kBitMn = 256, kBitMark = 512, kBitNumeric = 1024 };
constexpr std::uint32_t kCategoryMask = 31;

std::uint32_t find_entry(char32_t c) {
  const auto key = static_cast<std::uint32_t>(c) << 11 | 0x7FF;
  return *std::prev(std::upper_bound(kClassRuns.begin(), kClassRuns.end(), key)) & 0x7FF;
}

constexpr std::uint32_t bits_of(std::initializer_list<Category> categories) {
  std::uint32_t bits = 0;
  for (const Category c : categories) bits |= 1U << static_cast<unsigned>(c);
  return bits;
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/// Patterns take superscripts and fractions of Latin-1 for word characters and joiners for none; the other places do not.
bool pattern_word_alone(char32_t c) { return c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0xBC && c <= 0xBE); }

std::uint16_t find_classes(char32_t c) {
  using enum Category;
  constexpr std::uint32_t kLetters = bits_of({kLu, kLl, kLt, kLm, kLo});
  constexpr std::uint32_t kNumbers = bits_of({kNd, kNl, kNo});

  const std::uint32_t entry = find_entry(c);
  const std::uint32_t category = 1U << (entry & kCategoryMask);
  unsigned mask = 0;
  const auto set = [&](unsigned bit, bool on) { mask |= on ? bit : 0U; };

  set(kLetter, (category & kLetters) != 0);
  set(kNumber, (category & kNumbers) != 0);
  set(kWhitespace, is_white_space(c));
  set(kPunctuation, (entry & kBitPunctuation) != 0);
  set(kOther, (entry & kBitOther) != 0);
  set(kNonspacingMark, (entry & kBitMn) != 0);
  set(kMark, (entry & kBitMark) != 0);
  set(kNumeric, (entry & kBitNumeric) != 0);
  set(kPatternWord, (entry & kBitWord) != 0);
  set(kWord, ((entry & kBitWord) != 0 && !pattern_word_alone(c)) || c == 0x200C || c == 0x200D);
  set(kCjk, in_cjk_block(c));
  return static_cast<std::uint16_t>(mask);
}

/// What find(c) gives for every character of the basic plane, and is asked for beyond it.
template <typename T, T (*find)(char32_t)>
T look_up(char32_t c) {
  static const std::unique_ptr<const std::array<T, 0x10000>> table = [] {
    auto t = std::make_unique<std::array<T, 0x10000>>();
    for (char32_t i = 0; i < 0x10000; ++i) (*t)[i] = find(i);
    return t;
  }();
  return c < 0x10000 ? (*table)[c] : find(c);
}

char32_t find_lowercase(char32_t c) {
  const auto value = static_cast<std::int32_t>(c);
  const auto next = std::upper_bound(kLowercaseRuns.begin(), kLowercaseRuns.end(), value,
                                     [](std::int32_t v, const LowercaseRun& run) { return v < run.first; });
  if (next == kLowercaseRuns.begin()) return c;

  const LowercaseRun& run = *std::prev(next);
  const std::int32_t distance = value - run.first;
  const bool inside = distance % run.stride == 0 && distance / run.stride < run.count;
  return inside ? static_cast<char32_t>(value + run.difference) : c;
}

Category find_category(char32_t c) { return static_cast<Category>(find_entry(c) & kCategoryMask); }

/// Characters that never stand at the beginning of a grapheme cluster (Extend, SpacingMark, ZWJ of UAX 29).
bool joins_previous(char32_t c) {
  using enum Category;
  if (c == 0x200C || c == 0x200D || c == 0xFF9E || c == 0xFF9F || c == 0xE33 || c == 0xEB3) return true;
  if (c >= 0x1F3FB && c <= 0x1F3FF) return true;
  if (c >= 0xE0020 && c <= 0xE007F) return true;
  if ((c >= 0x1ACF && c <= 0x1ADD) || (c >= 0x1AE0 && c <= 0x1AEB)) return true;  // Unicode 17

  const Category category = unicode::category(c);
  if (category == kMn || category == kMe) return true;
  if (category != kMc) return false;
  static constexpr std::pair<char32_t, char32_t> kNotSpacing[] = {
      {0x102B, 0x102C}, {0x1038, 0x1038}, {0x1062, 0x1064}, {0x1067, 0x106D}, {0x1083, 0x1083},   {0x1087, 0x108C},
      {0x108F, 0x108F}, {0x109A, 0x109C}, {0x1A61, 0x1A61}, {0x1A63, 0x1A64}, {0xAA7B, 0xAA7B}, {0xAA7D, 0xAA7D},
      {0x11720, 0x11721}};
  return std::none_of(std::begin(kNotSpacing), std::end(kNotSpacing), [=](auto range) { return c >= range.first && c <= range.second; });
}

/// Characters that take the next one into their grapheme cluster.
bool joins_next(char32_t c) {
  return (c >= 0x600 && c <= 0x605) || c == 0x6DD || c == 0x70F || c == 0x890 || c == 0x891 || c == 0x8E2 || c == 0xD4E ||
         c == 0x110BD || c == 0x110CD || c == 0x111C2 || c == 0x111C3 || c == 0x1193F || c == 0x11941 || c == 0x11A3A ||
         (c >= 0x11A84 && c <= 0x11A89) || c == 0x11D46 || c == 0x11F02;
}

bool breaks_around(char32_t c) {
  using enum Category;
  const Category category = unicode::category(c);
  return category == kCc || category == kZl || category == kZp ||
         (category == kCf && !joins_next(c) && !joins_previous(c));
}

/// Parts of a Hangul syllable: 1 = leading consonant, 2 = vowel, 3 = trailing consonant, 4 = LV, 5 = LVT.
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

const icu::Normalizer2& instance(bool compatibility, bool compose) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* n =
      compatibility ? (compose ? icu::Normalizer2::getNFKCInstance(status) : icu::Normalizer2::getNFKDInstance(status))
                    : (compose ? icu::Normalizer2::getNFCInstance(status) : icu::Normalizer2::getNFDInstance(status));
  require(U_SUCCESS(status), ErrorCode::kIo, "ICU: no normalization data: ", u_errorName(status));
  return *n;
}

/// Whether a character was there in a version of Unicode, so that newer tables of this machine's ICU do not matter.
bool known_in(char32_t c, unsigned version) {
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(c), age);
  return age[0] <= version;
}
/// Of the tables by which the reference normalizes, and of those by which it finds scripts.
constexpr unsigned kNormalizationVersion = 9;
constexpr unsigned kScriptVersion = 9;

bool normalized_by_reference(char32_t c) { return known_in(c, kNormalizationVersion); }

int combining_class(char32_t c) {
  if (c < 0x300) return 0;
  const int value = u_getCombiningClass(static_cast<UChar32>(c));
  return value != 0 && normalized_by_reference(c) ? value : 0;
}

/// Fully decomposed, combining marks in canonical order.
std::vector<Change> decompose(std::u32string_view text, const icu::Normalizer2& form) {
  std::vector<Change> out;
  out.reserve(text.size());
  std::size_t marks = 0;  // start of the run of combining marks at the end of `out`
  const auto sort_marks = [&] {
    if (out.size() - marks > 1)
      std::stable_sort(out.begin() + static_cast<std::ptrdiff_t>(marks), out.end(),
                       [](const Change& a, const Change& b) { return combining_class(a.c) < combining_class(b.c); });
  };
  const auto push = [&](char32_t c, int change) {
    if (combining_class(c) == 0) {
      sort_marks();
      out.push_back({c, change});
      marks = out.size();
    } else {
      out.push_back({c, change});
    }
  };
  icu::UnicodeString parts;
  for (const char32_t c : text) {
    if (c < 0xA0 || !form.getDecomposition(static_cast<UChar32>(c), parts) || !normalized_by_reference(c)) {
      push(c, 0);
      continue;
    }
    int change = 0;
    for (int32_t i = 0; i < parts.length(); i = parts.moveIndex32(i, 1), change = 1)
      push(static_cast<char32_t>(parts.char32At(i)), change);
  }
  sort_marks();
  return out;
}

/// Canonical composition (UAX 15). What a composed character replaces is the sum of what its parts replaced.
std::vector<Change> compose(const std::vector<Change>& in, const icu::Normalizer2& form) {
  std::vector<Change> out;
  out.reserve(in.size());
  std::ptrdiff_t starter = -1;  // in `out`
  int last_class = -1;          // of the mark before, -1 directly behind the starter
  for (const Change& x : in) {
    const int combining = combining_class(x.c);
    if (starter >= 0 && last_class < combining) {
      Change& s = out[static_cast<std::size_t>(starter)];
      if (const UChar32 joined = form.composePair(static_cast<UChar32>(s.c), static_cast<UChar32>(x.c)); joined >= 0) {
        s = {static_cast<char32_t>(joined), s.change + x.change - 1};
        continue;
      }
    }
    if (combining == 0) {
      starter = static_cast<std::ptrdiff_t>(out.size());
      last_class = -1;
    } else {
      last_class = combining;
    }
    out.push_back(x);
  }
  return out;
}

}  // namespace

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"  // inside ICU's macro
std::u32string decode(std::string_view utf8) {
  std::u32string out(utf8.size(), U'\0');
  const auto length = static_cast<int64_t>(utf8.size());
  std::size_t n = 0;
  for (int64_t i = 0; i < length;) {
    UChar32 c = static_cast<unsigned char>(utf8[static_cast<std::size_t>(i)]);
    if (c < 0x80)
      ++i;
    else
      U8_NEXT_OR_FFFD(utf8.data(), i, length, c);
    out[n++] = static_cast<char32_t>(c);
  }
  out.resize(n);
  return out;
}

bool is_valid_utf8(std::string_view bytes) {
  const auto length = static_cast<int64_t>(bytes.size());
  for (int64_t i = 0; i < length;) {
    UChar32 c = 0;
    U8_NEXT(bytes.data(), i, length, c);
    if (c < 0) return false;
  }
  return true;
}
#pragma GCC diagnostic pop

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
    return;
  }
  char buffer[4];
  int32_t n = 0;
  UBool error = false;
  U8_APPEND(buffer, n, 4, static_cast<UChar32>(c), error);
  if (!error) out.append(buffer, static_cast<std::size_t>(n));
}

std::string encode(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : text) append_utf8(out, c);
  return out;
}

std::string repair(std::string_view utf8) { return is_valid_utf8(utf8) ? std::string(utf8) : encode(decode(utf8)); }

std::uint16_t classes(char32_t c) { return look_up<std::uint16_t, find_classes>(c); }

Category category(char32_t c) { return look_up<Category, find_category>(c); }

void append_lowercase(std::u32string& out, char32_t c) {
  if (c == 0x130)  // the only character whose full lower case has two code points
    out += U"i\u0307";
  else
    out.push_back(c < 0x80 ? (c >= 'A' && c <= 'Z' ? c + 32 : c) : look_up<char32_t, find_lowercase>(c));
}

std::vector<Change> normalize(std::u32string_view text, Form form) {
  const bool compatibility = form == Form::kNfkc || form == Form::kNfkd, composed = form == Form::kNfc || form == Form::kNfkc;
  std::vector<Change> out = decompose(text, instance(compatibility, false));
  return composed ? compose(out, instance(compatibility, true)) : out;
}

std::vector<std::size_t> grapheme_ends(std::u32string_view text) {
  std::vector<std::size_t> ends;
  for (std::size_t i = 1; i < text.size(); ++i) {
    const char32_t before = text[i - 1];
    const char32_t after = text[i];
    const bool line_break = before == U'\r' && after == U'\n';
    const bool joined =
        !breaks_around(before) && !breaks_around(after) && (joins_previous(after) || joins_next(before) || same_syllable(before, after));
    if (!line_break && !joined) ends.push_back(i);
  }
  if (!text.empty()) ends.push_back(text.size());
  return ends;
}

int script_of(char32_t c) {
  if (c == U' ' || !known_in(c, kScriptVersion)) return -1;
  if (c == 0x30FC) return USCRIPT_HAN;
  if (c == 0x589 || c == 0x61C) return USCRIPT_COMMON;  // which other scripts claimed later
  if (c == 0x953 || c == 0x954) return USCRIPT_DEVANAGARI;

  UErrorCode status = U_ZERO_ERROR;
  const UScriptCode script = uscript_getScript(static_cast<UChar32>(c), &status);
  if (script == USCRIPT_UNKNOWN) return -1;
  return script == USCRIPT_HIRAGANA || script == USCRIPT_KATAKANA ? USCRIPT_HAN : script;
}

}  // namespace quell::unicode
