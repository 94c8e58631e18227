// SQuAD's measures and layouts; numbers are those of the official scripts in Python 3.11.
#include "quell/eval/squad_text.h"

#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/eval/squad.h"
#include "quell/io/json.h"

namespace quell {
namespace {

TEST(SquadText, Normalization) {
  EXPECT_EQ(normalize_answer(" The  Eiffel Tower! "), "eiffel tower");
  EXPECT_EQ(normalize_answer("ÉCOLE ΟΔΥΣΣΕΥΣ İ"), "école οδυσσευς i\u0307");
  EXPECT_EQ(normalize_answer("the\u00a0York\u3000an\u2028x"), "york x");
  EXPECT_EQ(normalize_answer("a\u0301b a\u0301 an–the"),
            "\u0301b \u0301 –");  // marks and dashes end words
  EXPECT_EQ(normalize_answer("la the2 a_b ªa"), "la the2 ab ªa");
  EXPECT_EQ(normalize_answer("«U.S.A.» “the” …"), "«usa» “ ” …");  // only ASCII punctuation goes
  EXPECT_EQ(normalize_answer("t-h-e"), "");                        // punctuation goes first
}

TEST(SquadText, ScoresOfBothVersions) {
  const AnswerScore half = score_answer("big red tower", {"tower"}, false);
  EXPECT_EQ(half.exact, 0);
  EXPECT_NEAR(half.f1, 0.5, 1e-12);
  EXPECT_EQ(score_answer("the tower", {"x", "A Tower."}, true).exact, 1);  // the best of several
  EXPECT_NEAR(score_answer("x y", {"x", "x y z"}, false).f1, 0.8, 1e-12);
  EXPECT_NEAR(score_answer("x x y", {"x x x"}, false).f1, 2.0 / 3, 1e-12);

  EXPECT_EQ(score_answer("the", {"a"}, false).exact, 1);  // both are empty
  EXPECT_EQ(score_answer("the", {"a"}, false).f1, 0);
  EXPECT_EQ(score_answer("the", {"a"}, true).f1, 1);
  EXPECT_EQ(score_answer("", {}, true).exact, 1);
  EXPECT_EQ(score_answer("", {}, true).f1, 1);
  EXPECT_EQ(score_answer("x", {}, true).f1, 0);
  EXPECT_EQ(score_answer("", {"the", "x"}, true).exact, 0);  // "the" is no answer that counts
}

Json answers(const std::vector<std::string>& texts) {
  Json out = Json::array();
  for (const std::string& t : texts) out.push_back({{"text", t}, {"answer_start", 0}});
  return out;
}

TEST(SquadFile, LayoutsAndVersions) {
  const auto nested = [](const std::vector<Json>& all, const char* version) {
    Json qas = Json::array();
    for (const Json& a : all) qas.push_back({{"question", " q?"}, {"answers", a}});
    const Json paragraph = {{"context", "c"}, {"qas", qas}},
               article = {{"paragraphs", Json::array({paragraph})}};
    Json out = {{"data", Json::array({article})}};
    if (version) out["version"] = version;
    return out;
  };
  const SquadSet first = parse_squad(nested({answers({"x", "y"})}, "1.1"), "f");
  EXPECT_FALSE(first.version2);
  EXPECT_EQ(first.questions[0].question, "q?");
  EXPECT_EQ(first.questions[0].answers, (std::vector<std::string>{"x", "y"}));
  EXPECT_TRUE(parse_squad(nested({answers({"x"})}, "v2.0"), "f").version2);
  const SquadSet second = parse_squad(nested({answers({"x"}), answers({})}, nullptr), "f");
  EXPECT_TRUE(second.version2);
  ASSERT_EQ(second.questions.size(), 2U);  // no question is dropped
  EXPECT_TRUE(second.questions[1].answers.empty());

  const Json row = {
      {"context", "c"},
      {"question", "q"},
      {"answers", {{"text", Json::array({"x"})}, {"answer_start", Json::array({0})}}}};
  for (const Json& flat : {Json{{"data", Json::array({row})}}, Json::array({row})})
    EXPECT_EQ(parse_squad(flat, "f").questions[0].answers[0], "x");
  EXPECT_THROW(parse_squad({{"data", {{{"context", "c"}}}}}, "f"), Error);
  EXPECT_THROW(parse_squad({{"data", Json::array()}}, "f"), Error);
}

}  // namespace
}  // namespace quell
