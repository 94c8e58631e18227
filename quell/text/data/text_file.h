// Text as Python's text mode reads it, so that where a file was saved changes nothing: no
// byte-order mark, line ends (LF, CRLF, a lone CR) as LF.
#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

namespace quell {

/// `source` names the bytes in messages. Throws Error(kInvalidInput) for UTF-16, UTF-32 and the
/// first bytes that are not UTF-8.
std::string text_of_bytes(std::string_view bytes, const std::string& source);

/// A whole file. Throws Error(kIo | kInvalidInput), also above `limit` bytes.
std::string read_data_text(const std::filesystem::path& path,
                           std::size_t limit = std::size_t{1} << 31);

/// The ending of a file's name in small letters: ".jsonl" of DATA.JSONL, and of .ndjson too,
/// another name of the same.
std::string data_ending(const std::filesystem::path& path);

/// The lines of such a text; a line end at its end opens no further line.
std::vector<std::string> split_lines(std::string_view text);

/// The lines of a stream, by the same rules but that bytes which are not UTF-8 stay what they are.
/// `source` names it in messages.
class LineReader {
 public:
  explicit LineReader(std::istream& in, std::string source = "standard input")
      : in_(in), source_(std::move(source)) {}
  /// False at the end. Throws Error(kInvalidInput) for UTF-16 and UTF-32, Error(kIo) where reading
  /// fails before the end.
  bool next(std::string& line);

 private:
  std::istream& in_;
  std::string source_;
  std::vector<std::string> waiting_;  ///< lines that ended in a lone CR, the last one first
  bool first_ = true;
};

}  // namespace quell
