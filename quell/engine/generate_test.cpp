#include "quell/engine/generate.h"

#include <gtest/gtest.h>

#include <cmath>

namespace quell {
namespace {

TEST(SampleToken, GreedyTakesTheFirstOfEquals) {
  Random random(1);
  const std::vector<float> logits = {1, 3, 3, 2};
  EXPECT_EQ(sample_token(logits, {}, random), 1);
}

TEST(SampleToken, FollowsTheProbabilitiesAndItsLimits) {
  const std::vector<float> logits = {std::log(0.5F), std::log(0.3F), std::log(0.15F),
                                     std::log(0.05F)};
  const auto count = [&](SamplingOptions options) {
    Random random(7);
    std::vector<int> seen(4);
    for (int i = 0; i < 20000; ++i)
      ++seen[static_cast<std::size_t>(sample_token(logits, options, random))];
    return seen;
  };
  const std::vector<int> all = count({.temperature = 1});
  EXPECT_NEAR(all[0], 10000, 300);
  EXPECT_NEAR(all[1], 6000, 300);
  EXPECT_NEAR(all[3], 1000, 150);
  const std::vector<int> two = count({.temperature = 1, .top_k = 2});
  EXPECT_NEAR(two[0], 12500, 300);
  EXPECT_EQ(two[2] + two[3], 0);
  const std::vector<int> nucleus = count({.temperature = 1, .top_p = 0.9});
  EXPECT_EQ(nucleus[3], 0);
  EXPECT_GT(nucleus[2], 0);
  EXPECT_GT(count({.temperature = 0.2})[0], 18000);
}

TEST(SampleToken, SameSeedSameTokens) {
  const std::vector<float> logits(50, 0.0F);
  Random a(3), b(3);
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(sample_token(logits, {.temperature = 1, .seed = 3}, a),
              sample_token(logits, {.temperature = 1, .seed = 3}, b));
}

}  // namespace
}  // namespace quell
