// Answers as public data sets and lm-evaluation-harness write them.
#include "quell/eval/answer_key.h"

#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/eval/language_tasks.h"
#include "quell/io/json.h"

namespace quell {
namespace {

const std::vector<AnswerKey> kKeys = {{"gold", 0}, {"answerKey", 1, true}};

std::size_t answer(const Json& row, const std::vector<std::string>& labels = {}) {
  return find_answer(row, kKeys, labels, 4, "row 1");
}

TEST(AnswerKey, LettersDigitsAndNumbers) {
  const std::map<std::string, std::size_t> expected = {
      {"A", 0}, {"d", 3}, {"1", 0}, {"4", 3}, {" B ", 1}};
  for (const auto& [text, index] : expected)
    EXPECT_EQ(answer({{"answerKey", text}}), index) << text;
  EXPECT_EQ(answer({{"answerKey", 2}}), 1U);
  EXPECT_EQ(answer({{"answerKey", 2.0}}), 1U);
  EXPECT_EQ(answer({{"gold", 0}}), 0U);
  EXPECT_EQ(answer({{"gold", "3"}}), 3U);
}

TEST(AnswerKey, LabelsOfTheFileComeFirst) {
  EXPECT_EQ(answer({{"answerKey", "1"}}, {"0", "1", "2", "3"}), 1U);
  EXPECT_EQ(answer({{"answerKey", "B"}}, {"D", "C", "B", "A"}), 2U);
  EXPECT_EQ(answer({{"answerKey", "b"}}, {"D", "C", "B", "A"}), 2U);
  EXPECT_EQ(answer({{"answerKey", "3"}}, {"A", "B", "C", "D"}), 2U);
  EXPECT_EQ(answer({{"gold", 1}}, {"1", "2", "3", "4"}),
            1U);  // gold is an index whatever choices are called
}

TEST(AnswerKey, WhatIsNoAnswerIsRefused) {
  for (const Json& row :
       {Json{{"answerKey", "5"}}, Json{{"answerKey", "0"}}, Json{{"answerKey", "E"}},
        Json{{"answerKey", "AB"}}, Json{{"gold", -1}}, Json{{"gold", 4}}, Json{{"gold", 1.5}},
        Json{{"gold", true}}, Json{{"gold", {1}}}, Json{{"answerKey", ""}},
        Json{{"answerKey", nullptr}}, Json::object(), Json{{"gold", 0}, {"answerKey", "B"}}})
    EXPECT_THROW(answer(row), Error) << row;
  EXPECT_EQ(answer({{"gold", 1}, {"answerKey", "2"}}), 1U);
  EXPECT_EQ(answer({{"gold", 1}, {"answerKey", ""}}), 1U);
}

class Choices : public ::testing::Test {
 protected:
  ~Choices() override { set_log_sink({}); }
  ChoiceSet load(const std::string& task, const std::vector<Json>& rows,
                 std::int64_t context = 64) const {
    return make_choice_set(task, rows, "rows", tokenizer_, context, 0, 0);
  }
  std::vector<std::size_t> gold(const std::string& task, const std::vector<Json>& rows) const {
    std::vector<std::size_t> out;
    for (const ChoiceQuestion& q : load(task, rows).questions) out.push_back(q.gold);
    return out;
  }

  Tokenizer tokenizer_ = Tokenizer::from_json(
      {{"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
       {"model", {{"type", "WordLevel"}, {"unk_token", "u"}, {"vocab", {{"u", 0}}}}}},
      "test");
};

TEST_F(Choices, EveryLayoutAndKeyInOneFile) {
  const Json texts = {"a", "b", "c", "d"};
  const std::vector<Json> rows = {
      {{"question", "q"}, {"choices", texts}, {"answerKey", "2"}},
      {{"question", "q"}, {"choices", texts}, {"answerKey", "B"}},
      {{"question", "q"}, {"choices", texts}, {"answerKey", "b"}},
      {{"question", "q"},
       {"choices", {{"text", texts}, {"label", {"A", "B", "C", "D"}}}},
       {"answerKey", "B"}},
      {{"question", "q"},
       {"choices", {{"text", texts}, {"label", {"1", "2", "3", "4"}}}},
       {"answerKey", "2"}},
      {{"question",
        {{"stem", "q"},
         {"choices", {{{"text", "a"}, {"label", "A"}}, {{"text", "b"}, {"label", "B"}}}}}},
       {"answerKey", "B"}},
      {{"query", "q"}, {"choices", texts}, {"gold", 1}}};
  EXPECT_EQ(gold("arc_easy", rows), std::vector<std::size_t>(rows.size(), 1));
}

TEST_F(Choices, OtherTasks) {
  const Json piqa = {{"goal", "g"}, {"sol1", "a"}, {"sol2", "b"}};
  const Json swag = {
      {"activity_label", "x"}, {"ctx_a", "a"}, {"ctx_b", "b"}, {"endings", {"a", "b", "c", "d"}}};
  const Json grande = {{"sentence", "s _ t."}, {"option1", "a"}, {"option2", "b"}};
  const auto with = [](Json row, const char* key, const Json& value) {
    row[key] = value;
    return row;
  };
  EXPECT_EQ(gold("piqa", {with(piqa, "label", 1), with(piqa, "label", "1"), with(piqa, "gold", 1)}),
            std::vector<std::size_t>(3, 1));
  EXPECT_EQ(
      gold("hellaswag", {with(swag, "label", 3), with(swag, "label", "3"), with(swag, "gold", 3)}),
      std::vector<std::size_t>(3, 3));
  EXPECT_EQ(gold("winogrande", {with(grande, "answer", "2"), with(grande, "answer", 2),
                                with(grande, "answer", "B")}),
            std::vector<std::size_t>(3, 1));
  EXPECT_THROW(gold("winogrande", {with(grande, "answer", "")}),
               Error);  // a test set without answers
  EXPECT_THROW(gold("piqa", {with(piqa, "label", -1)}), Error);
}

TEST_F(Choices, LongQuestionsLoseTheirBeginningOrAreLeftOut) {
  std::vector<std::string> warnings;
  set_log_sink([&](LogLevel, const std::string& message) { warnings.push_back(message); });
  const auto row = [](const std::string& question, const std::string& choice) {
    return Json{{"query", question}, {"choices", {"x", choice}}, {"gold", 0}};
  };
  const std::vector<Json> rows = {row("a b", "c"), row("a b c d e f g h", "c"),
                                  row("a", "1 2 3 4 5 6"), row("a", "1 2 3 4 5")};
  const ChoiceSet set = load("arc_easy", rows, 5);
  EXPECT_EQ(set.questions.size(), 3U);
  for (const TokenSequence& s : set.sequences) EXPECT_LE(s.ids.size(), 5U);
  EXPECT_EQ(std::count(set.sequences.back().labels.begin(), set.sequences.back().labels.end(), 0),
            5);  // all of the choice
  ASSERT_EQ(warnings.size(), 2U);
  EXPECT_NE(warnings[0].find("1 rows lose the beginning"), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[0].find("row 2"), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[1].find("1 rows are left out"), std::string::npos) << warnings[1];
  EXPECT_NE(warnings[1].find("row 3"), std::string::npos) << warnings[1];
  EXPECT_THROW(load("arc_easy", {rows[2]}, 5), Error);
}

}  // namespace
}  // namespace quell
