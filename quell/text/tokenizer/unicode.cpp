#include "quell/text/tokenizer/unicode.h"

#include <unicode/brkiter.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/uscript.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>
#include <memory>

#include "quell/base/error.h"

namespace quell::unicode {
namespace {

icu::UnicodeString to_icu(std::u32string_view text) {
  return icu::UnicodeString::fromUTF32(reinterpret_cast<const UChar32*>(text.data()), static_cast<int32_t>(text.size()));
}

bool in_cjk_block(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

std::uint16_t find_classes(char32_t c) {
  const auto u = static_cast<UChar32>(c);
  const auto category = U_GET_GC_MASK(u);
  const bool ascii = c < 0x80;
  unsigned mask = 0;
  const auto set = [&](unsigned bit, bool on) { mask |= on ? bit : 0U; };
  set(kLetter, (category & U_GC_L_MASK) != 0);
  set(kNumber, (category & U_GC_N_MASK) != 0);
  set(kWhitespace, u_isUWhiteSpace(u));
  set(kPunctuation, ascii ? u_isgraph(u) && !u_isalnum(u) : (category & U_GC_P_MASK) != 0);
  set(kOther, (category & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK)) != 0);
  set(kNonspacingMark, (category & U_GC_MN_MASK) != 0);
  set(kMark, (category & U_GC_M_MASK) != 0);
  set(kWord, u_hasBinaryProperty(u, UCHAR_ALPHABETIC) || (category & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0 ||
                 u_hasBinaryProperty(u, UCHAR_JOIN_CONTROL));
  set(kCjk, in_cjk_block(c));
  return static_cast<std::uint16_t>(mask);
}

const icu::Normalizer2& instance(bool compatibility, bool compose) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* n =
      compatibility ? (compose ? icu::Normalizer2::getNFKCInstance(status) : icu::Normalizer2::getNFKDInstance(status))
                    : (compose ? icu::Normalizer2::getNFCInstance(status) : icu::Normalizer2::getNFDInstance(status));
  require(U_SUCCESS(status), ErrorCode::kIo, "ICU: no normalization data: ", u_errorName(status));
  return *n;
}

/// The reference normalizes by the tables of Unicode 12.0: later characters (U+32FF is one) stay as they are.
bool normalized_by_reference(char32_t c) {
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(c), age);
  return age[0] < 12 || (age[0] == 12 && age[1] == 0);
}

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

std::uint16_t classes(char32_t c) {
  static const std::unique_ptr<const std::array<std::uint16_t, 0x10000>> table = [] {
    auto t = std::make_unique<std::array<std::uint16_t, 0x10000>>();
    for (char32_t i = 0; i < 0x10000; ++i) (*t)[i] = find_classes(i);
    return t;
  }();
  return c < 0x10000 ? (*table)[c] : find_classes(c);
}

void append_lowercase(std::u32string& out, char32_t c) {
  if (c == 0x130)  // the only character whose full lower case has two code points
    out += U"i\u0307";
  else
    out.push_back(c < 0x80 ? (c >= 'A' && c <= 'Z' ? c + 32 : c) : static_cast<char32_t>(u_tolower(static_cast<UChar32>(c))));
}

std::vector<Change> normalize(std::u32string_view text, Form form) {
  const bool compatibility = form == Form::kNfkc || form == Form::kNfkd, composed = form == Form::kNfc || form == Form::kNfkc;
  std::vector<Change> out = decompose(text, instance(compatibility, false));
  return composed ? compose(out, instance(compatibility, true)) : out;
}

std::vector<std::size_t> grapheme_ends(std::u32string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<icu::BreakIterator> it(icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), status));
  require(U_SUCCESS(status), ErrorCode::kIo, "ICU: no grapheme data: ", u_errorName(status));
  const icu::UnicodeString units = to_icu(text);
  it->setText(units);
  std::vector<std::size_t> ends;
  std::size_t at = 0;
  int32_t unit = 0;
  for (int32_t end = it->next(); end != icu::BreakIterator::DONE; end = it->next()) {
    while (unit < end) unit += text[at++] >= 0x10000 ? 2 : 1;
    ends.push_back(at);
  }
  return ends;
}

int script_of(char32_t c) {
  UErrorCode status = U_ZERO_ERROR;
  const UScriptCode script = c == 0x30FC ? USCRIPT_HAN : uscript_getScript(static_cast<UChar32>(c), &status);
  return script == USCRIPT_HIRAGANA || script == USCRIPT_KATAKANA ? USCRIPT_HAN : script;
}

}  // namespace quell::unicode
