// GPT-2's byte alphabet (Radford et al. 2019): each byte as a printable character.
#pragma once

#include <optional>

#include "quell/text/tokenizer/aligned_text.h"

namespace quell {

/// Printable Latin-1 bytes stand for themselves, the others follow from U+0100.
char32_t character_of_byte(unsigned char byte);
std::optional<unsigned char> byte_of_character(char32_t c);
/// Replaces the text by the characters of its UTF-8 bytes.
void to_byte_level(AlignedText& text);
/// The same for pieces, whose ranges follow.
void to_byte_level(Pieces& pieces);

}  // namespace quell
