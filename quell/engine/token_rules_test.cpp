#include "quell/engine/token_rules.h"

#include <gtest/gtest.h>

#include <cmath>

namespace quell {
namespace {

/// Scores of eight tokens after `rules` with a prompt of `prompt` tokens and room for four more.
std::vector<float> apply(const GenerationSettings& settings, std::vector<std::int32_t> history,
                         std::int64_t prompt = 1) {
  std::vector<float> scores = {0.5F, -0.5F, 1, 2, 3, -2, 4, 5};
  const TokenRules rules(settings, prompt, 4);
  EXPECT_TRUE(rules.active());
  rules.apply(history, scores);
  return scores;
}

std::vector<int> banned(const std::vector<float>& scores) {
  std::vector<int> out;
  for (std::size_t i = 0; i < scores.size(); ++i)
    if (std::isinf(scores[i])) out.push_back(static_cast<int>(i));
  return out;
}

using Ids = std::vector<int>;

TEST(TokenRules, NothingIsDoneWithoutSettings) { EXPECT_FALSE(TokenRules({}, 3, 4).active()); }

TEST(TokenRules, RepetitionMakesTokensLessLikely) {
  const std::vector<float> scores = apply({.repetition_penalty = 2}, {3, 5, 3});
  EXPECT_EQ(scores[3], 1) << "halved once";
  EXPECT_EQ(scores[5], -4);
  EXPECT_EQ(scores[4], 3);
}

TEST(TokenRules, NoNgramComesTwice) {
  EXPECT_EQ(banned(apply({.no_repeat_ngram_size = 2}, {1, 2, 3, 1})), Ids{2});
  EXPECT_EQ(banned(apply({.no_repeat_ngram_size = 3}, {1, 2, 3, 1})), Ids{});
  EXPECT_EQ(banned(apply({.no_repeat_ngram_size = 3}, {1, 2, 3, 1, 2})), Ids{3});
  EXPECT_EQ(banned(apply({.no_repeat_ngram_size = 1}, {1, 2})), (Ids{1, 2}));
  EXPECT_EQ(banned(apply({.no_repeat_ngram_size = 9}, {1, 2})), Ids{});
}

TEST(TokenRules, BadWordsAreNotCompleted) {
  const GenerationSettings settings = {.bad_words = {{4}, {1, 2, 6}}};
  EXPECT_EQ(banned(apply(settings, {3})), Ids{4});
  EXPECT_EQ(banned(apply(settings, {1, 2})), (Ids{4, 6}));
}

TEST(TokenRules, TheEndWaitsForTheShortestLength) {
  const GenerationSettings length = {.eos_token_ids = {2, 3}, .min_length = 3};
  EXPECT_EQ(banned(apply(length, {5, 5}, 2)), (Ids{2, 3}));
  EXPECT_EQ(banned(apply(length, {5, 5, 5}, 2)), Ids{});
  const GenerationSettings tokens = {.eos_token_ids = {2}, .min_new_tokens = 2};
  EXPECT_EQ(banned(apply(tokens, {5, 5, 5}, 2)), Ids{2});
  EXPECT_EQ(banned(apply(tokens, {5, 5, 5, 5}, 2)), Ids{});
}

TEST(TokenRules, FirstAndLastTokensAreForced) {
  const GenerationSettings settings = {.forced_bos_token_id = 4, .forced_eos_token_ids = {1}};
  EXPECT_EQ(banned(apply(settings, {0})), (Ids{0, 1, 2, 3, 5, 6, 7}));
  EXPECT_EQ(banned(apply(settings, {0, 4})), Ids{});
  EXPECT_EQ(banned(apply(settings, {0, 4, 5, 6})), (Ids{0, 2, 3, 4, 5, 6, 7}))
      << "the last of four";
}

TEST(TokenRules, SuppressedTokensNeverComeOrNotFirst) {
  const GenerationSettings settings = {.suppress_tokens = {7}, .begin_suppress_tokens = {6}};
  EXPECT_EQ(banned(apply(settings, {0, 0}, 2)), (Ids{6, 7}));
  EXPECT_EQ(banned(apply(settings, {0, 0, 1}, 2)), Ids{7});
  const GenerationSettings forced = {.forced_bos_token_id = 4, .begin_suppress_tokens = {6}};
  EXPECT_EQ(banned(apply(forced, {0, 4})), Ids{6})
      << "the token behind the forced one is the first";
}

}  // namespace
}  // namespace quell
