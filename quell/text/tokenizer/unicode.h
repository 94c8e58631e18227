// UTF-8 and the character classes that the reference tokenizers use.
#pragma once

#include <string>
#include <string_view>

namespace quell::unicode {

/// Ill-formed bytes become U+FFFD (one per maximal subpart).
std::u32string decode(std::string_view utf8);
std::string encode(std::u32string_view text);
void append_utf8(std::string& out, char32_t c);
/// Well-formed UTF-8, ill-formed bytes replaced by U+FFFD.
std::string repair(std::string_view utf8);

bool is_whitespace(char32_t c);   ///< Unicode White_Space
bool is_other(char32_t c);        ///< general categories Cc, Cf, Co
bool is_punctuation(char32_t c);  ///< general categories P*, or ASCII punctuation
bool is_nonspacing_mark(char32_t c);
bool is_word(char32_t c);                            ///< \w: letters, marks, numbers, connectors
bool is_cjk(char32_t c);                             ///< the ideograph blocks of BERT's normalizer
std::u32string lowercase(std::u32string_view text);  ///< full mapping, character by character
std::u32string nfd(std::u32string_view text);

}  // namespace quell::unicode
