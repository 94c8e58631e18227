// Numbers as text, and back.
#pragma once

#include <array>
#include <charconv>
#include <string>

namespace quell {

/// The shortest decimal number that is read as `value`.
inline std::string exact_text(double value) {
  std::array<char, 64> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  return {digits.data(), end};
}

/// The whole of `text` as a number; false where it is none, or too large for one.
template <typename Number>
bool parse_whole(const std::string& text, Number& value) {
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stopped == end;
}

}  // namespace quell
