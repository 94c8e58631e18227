// Definitions of the tasks, on examples worked out by hand or with the packages that define them.
#include <gtest/gtest.h>

#include <cmath>

#include "quell/eval/language_tasks.h"
#include "quell/eval/perplexity.h"
#include "quell/eval/rouge.h"
#include "quell/eval/token_statistics.h"
#include "quell/io/json.h"

namespace quell {
namespace {

TEST(Rouge, CountsClippedNgramsAndTheLongestCommonSubsequence) {
  const RougeScores r = rouge("The cat sat on the mat.", "the the the cat, on a mat");
  // 7 predicted and 6 expected words; the (2 of 3), cat, on, mat match: P 5/7, R 5/6.
  EXPECT_NEAR(r.rouge1, 2 * (5.0 / 7) * (5.0 / 6) / (5.0 / 7 + 5.0 / 6), 1e-12);
  EXPECT_NEAR(r.rouge2, 2 * (1.0 / 6) * (1.0 / 5) / (1.0 / 6 + 1.0 / 5), 1e-12);   // only "the cat"
  EXPECT_NEAR(r.rouge_l, 2 * (4.0 / 7) * (4.0 / 6) / (4.0 / 7 + 4.0 / 6), 1e-12);  // the cat on mat
  EXPECT_EQ(rouge("a b", "").rouge1, 0);
}

TEST(HellaSwag, BracketsAndTitlesGo) {
  EXPECT_EQ(clean_hellaswag(" How to [title] Do it [step] now.  Then "), "How to. Do it now. Then");
}

TEST(WikiText, DocumentsAndDetokenization) {
  const auto documents =
      split_wikitext(" \n = A = \n text \n = = B = = \n more \n = C = \n end \n");
  ASSERT_EQ(documents.size(), 2U);
  EXPECT_EQ(documents[1], " = C = \n end \n");
  EXPECT_EQ(
      detokenize_wikitext("a well @-@ known 1 @,@ 000 , ( so to speak ) . \n next 's \" word \""),
      "a well-known 1,000, (so to speak).\nnext's \"word\"");
}

TEST(TokenStatistics, EqualsHandComputedMeans) {
  TokenStatistics s;
  const std::vector<float> base = {std::log(0.5F), std::log(0.25F), std::log(0.25F)};
  const std::vector<float> model = {std::log(0.25F), std::log(0.5F), std::log(0.25F)};
  s.add(base, model, 0);
  s.add(base, base, 0);
  const Json j = s.to_json();
  EXPECT_NEAR(j["ppl_base"]["value"].get<double>(), 2, 1e-6);
  EXPECT_NEAR(j["ppl_q"]["value"].get<double>(), std::sqrt(8.0), 1e-6);
  EXPECT_NEAR(j["ppl_ratio"]["value"].get<double>(), std::sqrt(2.0), 1e-6);
  EXPECT_NEAR(j["kld_mean"]["value"].get<double>(), 0.25 * std::log(2.0) / 2, 1e-6);
  EXPECT_NEAR(j["same_top_p"]["value"].get<double>(), 50, 1e-9);
  EXPECT_NEAR(j["delta_p_mean"]["value"].get<double>(), -12.5, 1e-5);
  EXPECT_NEAR(j["delta_p_rms"]["value"].get<double>(), 25 / std::sqrt(2.0), 1e-5);
  // log-perplexities 2 ln 2 and ln 2: half a difference of ln 2 on either side, over sqrt(n - 1) =
  // 1 and sqrt(n) inside the mean
  EXPECT_NEAR(j["log_ppl_ratio"]["error"].get<double>(), std::log(2.0) / 2, 1e-6);
  EXPECT_NE(s.to_text().find("Same top p: 50.000"), std::string::npos) << s.to_text();
}

}  // namespace
}  // namespace quell
