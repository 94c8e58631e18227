// Data files of every kind: rows, labels, and what the way they were saved must not change.
#include "quell/text/data/dataset.h"

#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/base/scratch_file.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "tests/support/scratch_dir.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

class Datasets : public ::testing::Test {
 protected:
  void TearDown() override { set_log_sink({}); }

  fs::path file(const std::string& name, const std::string& text) const {
    write_text_file(dir_ / name, text);
    return dir_ / name;
  }
  std::string error(const fs::path& path, const ColumnChoice& columns = {},
                    LabelUse labels = LabelUse::kRead) const {
    try {
      (void)read_dataset(path, columns, labels);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  testing::ScratchDir dir_;
};

std::string with_line_ends(const std::string& text, const std::string& end) {
  std::string out;
  for (const char c : text) out += c == '\n' ? end : std::string(1, c);
  return out;
}

std::string summary(const Dataset& d) {
  std::string out = d.raw_text + "|";
  for (const Example& e : d.examples) {
    for (const std::string& t : e.texts) out += t + "~";
    for (const std::int32_t id : e.tokens.ids) out += std::to_string(id) + ",";
    out += (e.label ? std::to_string(*e.label) : "none") + " at " + std::to_string(e.line) + ";";
  }
  return out;
}

TEST_F(Datasets, MarksAndLineEndsChangeNothing) {
  const std::map<std::string, std::string> files = {
      {".txt", "one two\n\nthree\n"},
      {".tsv", "sentence\tlabel\nfine\t1\n\nbad\t0\n"},
      {".csv", "text,label\n\"fine, \"\"so\"\"\nto say\",1\nbad,0\n"},
      {".jsonl", "{\"text\": \"fine\", \"label\": 1}\n\n{\"text\": \"a\\r\\nb\", \"label\": 0}\n"},
      {".json", "[\n{\"text\": \"fine\", \"label\": 1},\n{\"text\": \"bad\", \"label\": 0}\n]\n"},
      {".ids.jsonl", "{\"input_ids\": [1, 2]}\n{\"input_ids\": [3]}\n"},
      {".dat", "text\nfine\n"}};
  for (const auto& [extension, text] : files) {
    const std::string expected = summary(read_dataset(file("lf" + extension, text), {}));
    for (const std::string end : {"\n", "\r\n", "\r"})
      for (const std::string mark : {"", "\xEF\xBB\xBF"}) {
        const fs::path saved = file("saved" + extension, mark + with_line_ends(text, end));
        EXPECT_EQ(summary(read_dataset(saved, {})), expected)
            << extension << " " << mark.size() << " " << Json(end);
      }
    EXPECT_NE(error(file("u16" + extension, "\xFF\xFE" + text)).find("UTF-16"), std::string::npos)
        << extension;
    EXPECT_NE(error(file("latin" + extension, text + "na\xEFve\n")).find("not UTF-8"),
              std::string::npos)
        << extension;
  }
}

TEST_F(Datasets, TablesWithCommas) {
  const Dataset d = read_dataset(
      file("a.csv", "id,text,label\n1,\"a, \"\"b\"\"\nc\",1\n\n2,\"\",0\n3,d,0\n"), {});
  ASSERT_EQ(d.examples.size(), 3U);
  EXPECT_EQ(d.examples[0].texts[0], "a, \"b\"\nc");
  EXPECT_EQ(d.examples[1].texts[0], "");
  EXPECT_EQ(d.examples[1].line, 5U);
  EXPECT_EQ(d.examples[2].texts[0], "d");
  EXPECT_EQ(read_dataset(file("b.csv", "x, y\tz\n"), {{"1"}, ""}).examples[0].texts[0],
            "x, y");  // tabs, as STS-B's files have them
  EXPECT_NE(error(file("c.csv", "text,label\n\"a,1\n")).find("c.csv:2: a quoted field"),
            std::string::npos);
}

TEST_F(Datasets, JsonRowsInEveryLayout) {
  const std::string row = R"({"sentence1": "a", "sentence2": "b", "label": "entailment"})";
  const ColumnChoice names{{}, "", {"entailment", "not_entailment"}};
  for (const fs::path& path :
       {file("a.jsonl", row + "\n"), file("a.json", "[" + row + "]"), file("b.json", row + "\n")}) {
    const Dataset d = read_dataset(path, names);
    ASSERT_EQ(d.examples.size(), 1U) << path;
    EXPECT_EQ(d.examples[0].texts, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(d.examples[0].label, 0.0);
  }
  EXPECT_EQ(
      read_dataset(file("c.jsonl", R"({"sentence": "a", "label": true})"), {}).examples[0].label,
      1.0);
  EXPECT_NE(error(file("d.jsonl", "\n{\"title\": \"a\"}\n")).find("d.jsonl:2: no string \"text\""),
            std::string::npos);
}

TEST_F(Datasets, CalibrationNeedsNoLabels) {
  const std::vector<std::pair<std::string, std::string>> files = {
      {"words.tsv", "text\tlabel\na b\tpositive\n"},
      {"short.tsv", "text\tlabel\na b\n"},
      {"null.jsonl", R"({"text": "a b", "label": null})"},
      {"words.jsonl", R"({"text": "a b", "label": "positive"})"},
      {"list.jsonl", R"({"text": "a b", "label": [1, 2]})"},
      {"object.json", R"([{"text": "a b", "label": {"x": 1}}])"}};
  for (const auto& [name, text] : files) {
    const Dataset d = read_dataset(file(name, text), {{}, "missing"}, LabelUse::kIgnore);
    ASSERT_EQ(d.examples.size(), 1U) << name;
    EXPECT_EQ(d.examples[0].texts[0], "a b") << name;
    EXPECT_FALSE(d.examples[0].label) << name;
  }
  EXPECT_NE(error(dir_ / "words.tsv").find("words.tsv:2: label \"positive\" is not a number"),
            std::string::npos);
  EXPECT_NE(error(dir_ / "list.jsonl").find("label"), std::string::npos);
  EXPECT_FALSE(read_dataset(dir_ / "null.jsonl", {}).examples[0].label);
}

TEST_F(Datasets, RowsWithoutTokensAreLeftOutAndCounted) {
  const Tokenizer tokenizer = Tokenizer::from_json(
      {{"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
       {"model", {{"type", "WordLevel"}, {"unk_token", "u"}, {"vocab", {{"u", 0}}}}}},
      "test");
  const Dataset d =
      read_dataset(file("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\"}\n{\"text\": \" \"}\n"), {});
  std::string warning;
  set_log_sink([&](LogLevel, const std::string& message) { warning += message; });
  EXPECT_EQ(tokenize_examples(d, &tokenizer, PairMode::kPair, 0, EmptyRows::kLeaveOut).size(), 1U);
  EXPECT_NE(warning.find("2 rows without tokens are left out, the first at 2"), std::string::npos)
      << warning;
  EXPECT_THROW(tokenize_examples(d, &tokenizer, PairMode::kPair, 0), Error);
  const Dataset nothing = read_dataset(file("b.jsonl", "{\"text\": \"\"}\n"), {});
  EXPECT_THROW(tokenize_examples(nothing, &tokenizer, PairMode::kPair, 0, EmptyRows::kLeaveOut),
               Error);
}

}  // namespace
}  // namespace quell
