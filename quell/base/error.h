// The one exception type of Quell, and the checks that throw it.
#pragma once

#include <cassert>
#include <concepts>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

namespace quell {

/// Why a job cannot go on. `kUsage` ends the command with exit code 2, every other code with 1.
enum class ErrorCode { kUsage, kInvalidInput, kUnsupported, kIo, kNumeric, kVerification };

/// Thrown when a job cannot go on. `what()` is one line that names what is wrong, where, and what
/// to do. Caught once, in `cli/`. Libraries never print, exit or abort on bad input.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

/// One piece of a message, printed as `operator<<` prints it. Borrows text: it lives no longer than
/// the call that it is an argument of.
class MessagePiece {
 public:
  // Implicit, so that a list of values is a list of pieces.
  MessagePiece(const char* text) : kind_(Kind::kText), text_(text) {}
  MessagePiece(std::string_view text) : kind_(Kind::kText), text_(text) {}
  MessagePiece(const std::string& text) : kind_(Kind::kText), text_(text) {}
  MessagePiece(char character) : kind_(Kind::kCharacter), character_(character) {}
  template <std::signed_integral Integer>
  MessagePiece(Integer value) : kind_(Kind::kSigned), signed_(value) {
    static_assert(sizeof(Integer) > 1, "say whether a number or a character is meant");
  }
  template <std::unsigned_integral Integer>
  MessagePiece(Integer value) : kind_(Kind::kUnsigned), unsigned_(value) {
    static_assert(sizeof(Integer) > 1 || std::same_as<Integer, bool>,
                  "say whether a number or a character is meant");
  }
  template <std::floating_point Real>
  MessagePiece(Real value) : kind_(Kind::kReal), real_(value) {}

  void append_to(std::string& out) const;

 private:
  enum class Kind { kText, kCharacter, kSigned, kUnsigned, kReal };

  Kind kind_;
  union {
    std::string_view text_;
    char character_;
    long long signed_;
    unsigned long long unsigned_;
    double real_;
  };
};

std::string concatenate(std::initializer_list<MessagePiece> pieces);
[[noreturn]] void fail(ErrorCode code, std::initializer_list<MessagePiece> message);

/// Concatenates the arguments as `operator<<` prints them.
template <typename... Args>
std::string str(const Args&... args) {
  return concatenate({args...});
}

/// Throws `Error(code)` with the concatenated arguments unless `condition` holds. More than three
/// hundred places call it: all but the test is compiled once, in error.cpp.
template <typename... Args>
void require(bool condition, ErrorCode code, const Args&... message) {
  if (!condition) [[unlikely]]
    fail(code, {message...});
}

}  // namespace quell
