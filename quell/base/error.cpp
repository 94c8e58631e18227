#include "quell/base/error.h"

#include <array>
#include <charconv>

namespace quell {
namespace {

template <typename Number, typename... Format>
void append_number(std::string& out, Number value, Format... format) {
  std::array<char, 32> digits;
  const auto [end, error] =
      std::to_chars(digits.data(), digits.data() + digits.size(), value, format...);
  assert(error == std::errc());
  out.append(digits.data(), end);
}

}  // namespace

void MessagePiece::append_to(std::string& out) const {
  switch (kind_) {
    case Kind::kText: out += text_; break;
    case Kind::kCharacter: out += character_; break;
    case Kind::kSigned: append_number(out, signed_); break;
    case Kind::kUnsigned: append_number(out, unsigned_); break;
    case Kind::kReal:  // six digits, as a stream prints them
      append_number(out, real_, std::chars_format::general, 6);
      break;
  }
}

std::string concatenate(std::initializer_list<MessagePiece> pieces) {
  std::string out;
  for (const MessagePiece& piece : pieces) piece.append_to(out);
  return out;
}

void fail(ErrorCode code, std::initializer_list<MessagePiece> message) {
  throw Error(code, concatenate(message));
}

}  // namespace quell
