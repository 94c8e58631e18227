// Where a text was saved changes nothing: byte-order marks and line ends.
#include "quell/text/data/text_file.h"

#include <gtest/gtest.h>

#include <sstream>

#include "quell/base/error.h"

namespace quell {
namespace {
using namespace std::string_literals;

std::string message_of(const std::string& bytes) {
  try {
    (void)text_of_bytes(bytes, "file");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

std::vector<std::string> lines_of(const std::string& bytes) {
  std::istringstream in(bytes);
  LineReader reader(in);
  std::vector<std::string> lines;
  for (std::string line; reader.next(line);) lines.push_back(line);
  return lines;
}

TEST(TextFile, MarksAndLineEndsAreAsPythonReadsThem) {
  EXPECT_EQ(text_of_bytes("a\r\nb\rc\n\r\n\rd", "f"), "a\nb\nc\n\n\nd");
  EXPECT_EQ(text_of_bytes("\xEF\xBB\xBF"s + "a\xEF\xBB\xBF", "f"),
            "a\xEF\xBB\xBF");  // a mark inside is a character
  EXPECT_EQ(text_of_bytes("", "f"), "");
  EXPECT_EQ(text_of_bytes("\u2028\u0085\x0b", "f"), "\u2028\u0085\x0b");  // no line ends in files
  EXPECT_EQ(split_lines("a\n\nb"), (std::vector<std::string>{"a", "", "b"}));
  EXPECT_EQ(split_lines("a\n"), (std::vector<std::string>{"a"}));
}

TEST(TextFile, OtherEncodingsAreRefusedByName) {
  EXPECT_NE(message_of("\xFF\xFE"s + "a\0b\0"s).find("UTF-16"), std::string::npos);
  EXPECT_NE(message_of("\xFE\xFF\0a"s).find("UTF-16"), std::string::npos);
  EXPECT_NE(message_of("\xFF\xFE\0\0a\0\0\0"s).find("UTF-32"), std::string::npos);
  EXPECT_NE(message_of("a\0b\0"s).find("UTF-16"), std::string::npos);
  EXPECT_NE(message_of("\0a\0b"s).find("UTF-16"), std::string::npos);
  EXPECT_NE(message_of("fine\nna\xEFve\n").find("file:2: not UTF-8"), std::string::npos);
  EXPECT_NE(message_of("\xED\xA0\x80").find("file:1: not UTF-8"),
            std::string::npos);  // half of a surrogate pair
}

TEST(TextFile, StreamsGiveTheLinesOfFiles) {
  const std::vector<std::string> lines = {"a", "b", "", "c"};
  EXPECT_EQ(lines_of("a\nb\n\nc\n"), lines);
  EXPECT_EQ(lines_of("\xEF\xBB\xBF"s + "a\r\nb\r\n\r\nc\r\n"), lines);
  EXPECT_EQ(lines_of("a\rb\r\rc\r"), lines);
  EXPECT_EQ(lines_of("a\rb\n\r\nc"), lines);
  EXPECT_TRUE(lines_of("").empty());
  EXPECT_THROW(lines_of("\xFF\xFE"s + "a\0"s), Error);
}

}  // namespace
}  // namespace quell
