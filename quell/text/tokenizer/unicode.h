// UTF-8, character classes and normalization forms as the reference tokenizers use them. Data:
// tables of our own (unicode_tables.h), and ICU's for the normalization forms, which are fixed for
// the version that the reference has.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace quell::unicode {

/// Ill-formed bytes become U+FFFD (one per maximal subpart).
std::u32string decode(std::string_view utf8);
std::string encode(std::u32string_view text);
void append_utf8(std::string& out, char32_t c);
bool is_valid_utf8(std::string_view bytes);
/// Well-formed UTF-8, ill-formed bytes replaced by U+FFFD.
std::string repair(std::string_view utf8);

/// Bits of a character's class; one table look-up. What each means differs a little from place to
/// place in the reference, which takes its tables from several versions of Unicode.
enum Class : std::uint16_t {
  kLetter = 1,           ///< \p{L} of patterns
  kNumber = 2,           ///< \p{N} of patterns
  kWhitespace = 4,       ///< White_Space
  kPunctuation = 8,      ///< of BERT: P, or ASCII punctuation
  kOther = 16,           ///< of BERT: control characters and their like
  kNonspacingMark = 32,  ///< of BERT: Mn
  kMark = 64,            ///< M, of the normalizer StripAccents
  kWord = 128,           ///< \w of UTS 18, of the pre-tokenizer Whitespace and of `single_word`
  kCjk = 256,            ///< the ideograph blocks of BERT's normalizer
  kNumeric = 512,        ///< N, of the pre-tokenizer Digits
  kPatternWord = 1024,   ///< \w of patterns
  kSetWord = 2048        ///< the same between brackets
};
std::uint16_t classes(char32_t c);
inline bool is(char32_t c, unsigned mask) { return (classes(c) & mask) != 0; }

/// General categories of patterns, in the order of kCategoryNames.
enum class Category : std::uint8_t {
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMn,
  kMc,
  kMe,
  kNd,
  kNl,
  kNo,
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,
  kSm,
  kSc,
  kSk,
  kSo,
  kZs,
  kZl,
  kZp,
  kCc,
  kCf,
  kCo,
  kCn
};
inline constexpr std::string_view kCategoryNames[] = {
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
    "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cn"};
Category category(char32_t c);

/// Full lower case of one character appended to `out`, without context.
void append_lowercase(std::u32string& out, char32_t c);

/// A character of a normalized text: `change` > 0 where it was inserted, 0 where it replaces one
/// character, -n where it replaces 1
/// + n.
struct Change {
  char32_t c;
  int change;
};
enum class Form { kNfc, kNfd, kNfkc, kNfkd };
/// Of the tables by which the tokenizers library normalizes, and of those of Python 3.11, by which
/// classes written in Python go.
inline constexpr unsigned kLibraryVersion = 9;
inline constexpr unsigned kPythonVersion = 14;
/// Whether a character was there in a version of Unicode, so that newer tables of this machine's
/// ICU do not matter.
bool known_in(char32_t c, unsigned version);
/// By the tables of a version of Unicode. In time O(n log n) for any order of combining marks.
std::vector<Change> normalize(std::u32string_view text, Form form,
                              unsigned version = kLibraryVersion);

/// Ends of the grapheme clusters of `text`, ascending. Emoji sequences and Indic conjuncts are left
/// in parts, which are longer than what anybody looks for here.
std::vector<std::size_t> grapheme_ends(std::u32string_view text);

/// Number of the script as ICU counts them, -1 where there is none; hiragana, katakana and U+30FC
/// count as Han.
int script_of(char32_t c);

}  // namespace quell::unicode
