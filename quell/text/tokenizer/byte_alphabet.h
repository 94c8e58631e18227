// Bytes as tokens: GPT-2's alphabet of printable characters (Radford et al. 2019), and
// SentencePiece's names.
#pragma once

#include <optional>
#include <string>

#include "quell/text/tokenizer/aligned_text.h"

namespace quell {

/// Printable Latin-1 bytes stand for themselves, the others follow from U+0100.
char32_t character_of_byte(unsigned char byte);
std::optional<unsigned char> byte_of_character(char32_t c);
/// SentencePiece's name of a byte: "<0x0A>".
std::string byte_token(unsigned char byte);
/// Replaces the text by the characters of its UTF-8 bytes.
void to_byte_level(AlignedText& text);
/// The same for pieces, whose ranges follow.
void to_byte_level(Pieces& pieces);

}  // namespace quell
