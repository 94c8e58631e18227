// The one exception type of Quell, and the checks that throw it.
#pragma once

#include <cassert>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

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

/// Concatenates the arguments as `operator<<` prints them.
template <typename... Args>
std::string str(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

/// Throws `Error(code)` with the concatenated arguments unless `condition` holds.
template <typename... Args>
void require(bool condition, ErrorCode code, const Args&... message) {
  if (!condition) [[unlikely]]
    throw Error(code, str(message...));
}

}  // namespace quell
