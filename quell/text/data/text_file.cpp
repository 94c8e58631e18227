#include "quell/text/data/text_file.h"

#include <algorithm>
#include <istream>

#include "quell/base/error.h"
#include "quell/io/mapped_file.h"
#include "quell/text/tokenizer/unicode.h"

namespace quell {
namespace {

constexpr std::string_view kUtf8Mark = "\xEF\xBB\xBF";

/// The name of an encoding other than UTF-8 that the first bytes give away; empty: none.
std::string_view foreign_encoding(std::string_view bytes) {
  using namespace std::string_view_literals;
  for (const auto& [mark, name] : {std::pair("\xFF\xFE\0\0"sv, "UTF-32"sv),
                                   {"\0\0\xFE\xFF"sv, "UTF-32"sv},
                                   {"\xFF\xFE"sv, "UTF-16"sv},
                                   {"\xFE\xFF"sv, "UTF-16"sv}})
    if (bytes.starts_with(mark)) return name;

  // ASCII without a mark: every second byte is 0, which no text in UTF-8 begins with.
  const bool low = bytes.size() >= 2 && bytes[0] != 0 && bytes[1] == 0,
             high = bytes.size() >= 2 && bytes[0] == 0 && bytes[1] != 0;
  return low || high ? "UTF-16"sv : ""sv;
}

void refuse_foreign(std::string_view bytes, const std::string& source) {
  const std::string_view foreign = foreign_encoding(bytes);
  require(foreign.empty(), ErrorCode::kInvalidInput, source, ": ", foreign,
          ", and text is read as UTF-8; convert it, as with iconv -f ", foreign, " -t UTF-8");
}

void refuse_ill_formed(std::string_view bytes, const std::string& source) {
  if (unicode::is_valid_utf8(bytes)) return;

  // Lines are well-formed or not each by itself, for no part of a character is a line break.
  std::size_t number = 1;
  for (std::size_t at = 0; at < bytes.size(); ++number) {
    const std::size_t end = std::min(bytes.find('\n', at), bytes.size());
    if (!unicode::is_valid_utf8(bytes.substr(at, end - at))) break;
    at = end + 1;
  }
  throw Error(
      ErrorCode::kInvalidInput,
      str(source, ":", number,
          ": not UTF-8; convert the file, as with iconv -f WINDOWS-1252 -t UTF-8, if that is what "
          "wrote it"));
}

}  // namespace

std::string text_of_bytes(std::string_view bytes, const std::string& source) {
  refuse_foreign(bytes, source);
  if (bytes.starts_with(kUtf8Mark)) bytes.remove_prefix(kUtf8Mark.size());
  refuse_ill_formed(bytes, source);

  std::string text;
  text.reserve(bytes.size());
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t end = std::min(bytes.find('\r', at), bytes.size());
    text += bytes.substr(at, end - at);
    if (end == bytes.size()) break;
    text.push_back('\n');
    at = bytes.substr(end).starts_with("\r\n") ? end + 2 : end + 1;
  }
  return text;
}

std::string read_data_text(const std::filesystem::path& path, std::size_t limit) {
  return text_of_bytes(read_text_file(path, limit), path.string());
}

std::string data_ending(const std::filesystem::path& path) {
  std::string ending = path.extension().string();
  for (char& c : ending)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return ending == ".ndjson" ? ".jsonl" : ending;
}

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

bool LineReader::next(std::string& line) {
  if (waiting_.empty()) {
    std::string read;
    if (!std::getline(in_, read)) {
      require(in_.eof(), ErrorCode::kIo, source_, ": cannot be read");
      return false;
    }

    if (first_) {
      refuse_foreign(read, source_);
      if (read.starts_with(kUtf8Mark)) read.erase(0, kUtf8Mark.size());
      first_ = false;
    }
    if (read.ends_with('\r')) read.pop_back();
    for (std::size_t at = 0; at <= read.size();) {
      const std::size_t end = std::min(read.find('\r', at), read.size());
      waiting_.push_back(read.substr(at, end - at));
      at = end + 1;
    }
    std::reverse(waiting_.begin(), waiting_.end());
  }

  line = std::move(waiting_.back());
  waiting_.pop_back();
  return true;
}

}  // namespace quell
