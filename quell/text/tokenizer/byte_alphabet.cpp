#include "quell/text/tokenizer/byte_alphabet.h"

#include <array>

namespace quell {
namespace {

constexpr std::array<char32_t, 256> kCharacters = [] {
  std::array<char32_t, 256> t{};
  char32_t next = 256;
  for (unsigned b = 0; b < 256; ++b) {
    const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    t[b] = printable ? static_cast<char32_t>(b) : next++;
  }
  return t;
}();

constexpr std::array<std::int16_t, 512> kBytes = [] {
  std::array<std::int16_t, 512> t{};
  for (auto& v : t) v = -1;
  for (unsigned b = 0; b < 256; ++b) t[kCharacters[b]] = static_cast<std::int16_t>(b);
  return t;
}();

void put_bytes(AlignedText::Builder& builder, char32_t c, std::size_t like) {
  const auto put = [&](char32_t byte) { builder.put(kCharacters[byte], like); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xC0 | c >> 6);
  } else {
    if (c < 0x10000) {
      put(0xE0 | c >> 12);
    } else {
      put(0xF0 | c >> 18);
      put(0x80 | (c >> 12 & 0x3F));
    }
    put(0x80 | (c >> 6 & 0x3F));
  }
  put(0x80 | (c & 0x3F));
}

}  // namespace

char32_t character_of_byte(unsigned char byte) { return kCharacters[byte]; }

std::optional<unsigned char> byte_of_character(char32_t c) {
  if (c >= kBytes.size() || kBytes[c] < 0) return std::nullopt;
  return static_cast<unsigned char>(kBytes[c]);
}

std::string byte_token(unsigned char byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
}

void to_byte_level(AlignedText& text) {
  AlignedText::Builder builder(text);
  for (std::size_t i = 0; i < text.size(); ++i) put_bytes(builder, text.text()[i], i);
  text = builder.take();
}

void to_byte_level(Pieces& pieces) {
  AlignedText::Builder builder(pieces.text);
  for (CharRange& r : pieces.ranges) {
    const std::size_t begin = builder.size();
    for (std::size_t i = r.begin; i < r.end; ++i) put_bytes(builder, pieces.text.text()[i], i);
    r = {begin, builder.size()};
  }
  pieces.text = builder.take();
}

}  // namespace quell
