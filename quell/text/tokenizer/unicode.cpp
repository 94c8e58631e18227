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
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/// The bits of kClassRuns above the category.
enum Bit : std::uint32_t {
  kBitWord = 32,
  kBitPunctuation = 64,
  kBitOther = 128,
  kBitMn = 256,
  kBitMark = 512,
  kBitNumeric = 1024
};
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
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

/// Superscripts and fractions of Latin-1 are word characters of patterns, but not between brackets
/// or anywhere else. Joiners are some everywhere but in patterns.
bool pattern_word_alone(char32_t c) {
  return c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0xBC && c <= 0xBE);
}

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
  set(kSetWord, (entry & kBitWord) != 0 && !pattern_word_alone(c));
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
  const auto next =
      std::upper_bound(kLowercaseRuns.begin(), kLowercaseRuns.end(), value,
                       [](std::int32_t v, const LowercaseRun& run) { return v < run.first; });
  if (next == kLowercaseRuns.begin()) return c;

  const LowercaseRun& run = *std::prev(next);
  const std::int32_t distance = value - run.first;
  const bool inside = distance % run.stride == 0 && distance / run.stride < run.count;
  return inside ? static_cast<char32_t>(value + run.difference) : c;
}

Category find_category(char32_t c) { return static_cast<Category>(find_entry(c) & kCategoryMask); }

const icu::Normalizer2& instance(bool compatibility, bool compose) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* n = compatibility ? (compose ? icu::Normalizer2::getNFKCInstance(status)
                                                       : icu::Normalizer2::getNFKDInstance(status))
                                            : (compose ? icu::Normalizer2::getNFCInstance(status)
                                                       : icu::Normalizer2::getNFDInstance(status));
  require(U_SUCCESS(status), ErrorCode::kIo, "ICU: no normalization data: ", u_errorName(status));
  return *n;
}

/// Of the tables by which the reference finds scripts.
constexpr unsigned kScriptVersion = 9;

int combining_class(char32_t c, unsigned version) {
  if (c < 0x300) return 0;
  const int value = u_getCombiningClass(static_cast<UChar32>(c));
  return value != 0 && known_in(c, version) ? value : 0;
}

/// Fully decomposed, combining marks in canonical order.
std::vector<Change> decompose(std::u32string_view text, const icu::Normalizer2& form,
                              unsigned version) {
  std::vector<Change> out;
  out.reserve(text.size());
  std::size_t marks = 0;  // start of the run of combining marks at the end of `out`
  const auto sort_marks = [&] {
    if (out.size() - marks > 1)
      std::stable_sort(out.begin() + static_cast<std::ptrdiff_t>(marks), out.end(),
                       [=](const Change& a, const Change& b) {
                         return combining_class(a.c, version) < combining_class(b.c, version);
                       });
  };
  const auto push = [&](char32_t c, int change) {
    if (combining_class(c, version) == 0) {
      sort_marks();
      out.push_back({c, change});
      marks = out.size();
    } else {
      out.push_back({c, change});
    }
  };
  icu::UnicodeString parts;
  for (const char32_t c : text) {
    if (c < 0xA0 || !form.getDecomposition(static_cast<UChar32>(c), parts) ||
        !known_in(c, version)) {
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

/// Canonical composition (UAX 15). What a composed character replaces is the sum of what its parts
/// replaced.
std::vector<Change> compose(const std::vector<Change>& in, const icu::Normalizer2& form,
                            unsigned version) {
  std::vector<Change> out;
  out.reserve(in.size());
  std::ptrdiff_t starter = -1;  // in `out`
  int last_class = -1;          // of the mark before, -1 directly behind the starter
  for (const Change& x : in) {
    const int combining = combining_class(x.c, version);
    if (starter >= 0 && last_class < combining) {
      Change& s = out[static_cast<std::size_t>(starter)];
      if (const UChar32 joined =
              form.composePair(static_cast<UChar32>(s.c), static_cast<UChar32>(x.c));
          joined >= 0) {
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

std::string repair(std::string_view utf8) {
  return is_valid_utf8(utf8) ? std::string(utf8) : encode(decode(utf8));
}

std::uint16_t classes(char32_t c) { return look_up<std::uint16_t, find_classes>(c); }

Category category(char32_t c) { return look_up<Category, find_category>(c); }

void append_lowercase(std::u32string& out, char32_t c) {
  if (c == 0x130)  // the only character whose full lower case has two code points
    out += U"i\u0307";
  else
    out.push_back(c < 0x80 ? (c >= 'A' && c <= 'Z' ? c + 32 : c)
                           : look_up<char32_t, find_lowercase>(c));
}

bool known_in(char32_t c, unsigned version) {
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(c), age);
  return age[0] <= version;
}

std::vector<Change> normalize(std::u32string_view text, Form form, unsigned version) {
  const bool compatibility = form == Form::kNfkc || form == Form::kNfkd,
             composed = form == Form::kNfc || form == Form::kNfkc;
  std::vector<Change> out = decompose(text, instance(compatibility, false), version);
  return composed ? compose(out, instance(compatibility, true), version) : out;
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
