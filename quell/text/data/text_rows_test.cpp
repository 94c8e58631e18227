// Rows read piece by piece follow the rules of files read whole.
#include "quell/text/data/text_rows.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "quell/base/error.h"
#include "tests/support/scratch_dir.h"

namespace quell {
namespace {
using namespace std::string_literals;

std::vector<std::string> texts_of(const std::string& bytes, RowFormat format) {
  std::istringstream in(bytes);
  TextRows rows({"-", format, {}, false}, in);

  std::vector<std::string> texts;
  for (std::vector<TextRows::Row> read; !(read = rows.next(2)).empty();)
    for (const TextRows::Row& row : read) texts.push_back(row.example.texts.at(0));
  return texts;
}

std::string message_of(const std::string& bytes, RowFormat format) {
  try {
    (void)texts_of(bytes, format);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(TextRows, MarksAndLineEndsChangeNothing) {
  const std::vector<std::string> expected = {"one", "", "two", "three"};
  for (const std::string end : {"\n", "\r\n", "\r"}) {
    const std::string lines = "one" + end + end + "two" + end + "three" + end;
    EXPECT_EQ(texts_of(lines, RowFormat::kLines), expected);
    EXPECT_EQ(texts_of("\xEF\xBB\xBF" + lines, RowFormat::kLines), expected);

    const std::string objects = "{\"text\": \"one\"}" + end + "{\"text\": \"two\"}" + end;
    EXPECT_EQ(texts_of("\xEF\xBB\xBF" + objects, RowFormat::kJsonl),
              (std::vector<std::string>{"one", "two"}));
  }
}

/// Large letters, other names of a format, labels that are words.
TEST(TextRows, StructuredFilesAreRowsWhateverTheyAreCalled) {
  const testing::ScratchDir dir;
  const auto read = [&](const std::string& name, const std::string& bytes) {
    const std::filesystem::path file = dir / name;
    std::ofstream(file, std::ios::binary) << bytes;
    std::istringstream none;
    TextRows rows({file, {}, {}, false}, none);
    std::vector<std::string> texts;
    for (const TextRows::Row& row : rows.next(9)) texts.push_back(row.example.texts.at(0));
    return texts;
  };
  const std::vector<std::string> expected = {"one", "two"};
  const std::string objects =
      "{\"text\": \"one\", \"label\": \"good\"}\n{\"text\": \"two\", \"label\": \"bad\"}\n";
  for (const char* name : {"rows.jsonl", "ROWS.JSONL", "rows.ndjson", "rows.json"})
    EXPECT_EQ(read(name, objects), expected) << name;
  EXPECT_EQ(read("array.json", "[{\"text\": \"one\"},\n {\"text\": \"two\"}]"), expected);
  for (const char* name : {"rows.tsv", "ROWS.TSV"})
    EXPECT_EQ(read(name, "text\tlabel\none\tgood\ntwo\tbad\n"), expected) << name;
  for (const char* name : {"rows.csv", "Rows.Csv"})
    EXPECT_EQ(read(name, "label,text\ngood,one\nbad,two\n"), expected) << name;
}

TEST(TextRows, OtherEncodingsAndBadRowsAreNamed) {
  EXPECT_NE(message_of("\xFF\xFE"
                       "a\0\n\0"s,
                       RowFormat::kLines)
                .find("UTF-16"),
            std::string::npos);
  EXPECT_NE(message_of("fine\ncaf\xE9\n", RowFormat::kLines).find("input:2: not UTF-8"),
            std::string::npos);
  EXPECT_NE(
      message_of("{\"text\": \"a\"}\n[1]\n", RowFormat::kJsonl).find("input:2: not an object"),
      std::string::npos);
}

}  // namespace
}  // namespace quell
