// UTF-8, character classes and normalization forms as the reference tokenizers use them. Data: ICU.
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

/// Bits of a character's class; one table look-up.
enum Class : std::uint16_t {
  kLetter = 1,           ///< \p{L}
  kNumber = 2,           ///< \p{N}
  kWhitespace = 4,       ///< White_Space
  kPunctuation = 8,      ///< \p{P}, or ASCII punctuation
  kOther = 16,           ///< Cc, Cf, Co
  kNonspacingMark = 32,  ///< Mn
  kMark = 64,            ///< \p{M}
  kWord = 128,           ///< \w of UTS 18: Alphabetic, M, Nd, Pc, Join_Control
  kCjk = 256             ///< the ideograph blocks of BERT's normalizer
};
std::uint16_t classes(char32_t c);
inline bool is(char32_t c, unsigned mask) { return (classes(c) & mask) != 0; }

/// Full lower case of one character appended to `out`, without context.
void append_lowercase(std::u32string& out, char32_t c);

/// A character of a normalized text: `change` > 0 where it was inserted, 0 where it replaces one character, -n where it replaces 1
/// + n.
struct Change {
  char32_t c;
  int change;
};
enum class Form { kNfc, kNfd, kNfkc, kNfkd };
/// In time O(n log n) for any order of combining marks.
std::vector<Change> normalize(std::u32string_view text, Form form);

/// Ends of the extended grapheme clusters of `text`, ascending.
std::vector<std::size_t> grapheme_ends(std::u32string_view text);

/// Number of the script as ICU counts them; hiragana, katakana and U+30FC count as Han.
int script_of(char32_t c);

}  // namespace quell::unicode
