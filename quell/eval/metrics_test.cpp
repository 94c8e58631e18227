#include "quell/eval/metrics.h"
#include "quell/ops/likelihood.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

namespace quell {
namespace {

TEST(Metrics, CorrelationsByHand) {
  const std::vector<double> a = {1, 2, 3, 4, 5}, b = {2, 1, 4, 3, 5}, tied = {1, 1, 2, 2, 3};
  EXPECT_NEAR(pearson(a, b), 80.0, 1e-9);
  EXPECT_NEAR(spearman(a, b), 80.0, 1e-9);
  EXPECT_NEAR(spearman(a, tied), 100 * 9.0 / std::sqrt(10.0 * 9.0), 1e-9);
  EXPECT_EQ(pearson(a, std::vector<double>(5, 1.0)), 0);
}

TEST(Metrics, ClassificationByHand) {
  const std::array<int, 6> predicted = {1, 1, 0, 0, 1, 0},
                           expected = {1, 0, 0, 1, 1, 0};  // tp 2, fp 1, fn 1, tn 2
  EXPECT_NEAR(accuracy(predicted, expected), 100 * 4.0 / 6, 1e-9);
  EXPECT_NEAR(f1(predicted, expected), 100 * 2.0 / 3, 1e-9);
  EXPECT_NEAR(matthews(predicted, expected), 100 * (2 * 2 - 1 * 1) / 9.0, 1e-9);
}

TEST(Metrics, LikelihoodAndDivergence) {
  const std::array<float, 2> even = {0, 0}, odd = {0, std::log(3.0F)};
  EXPECT_NEAR(negative_log_likelihood(odd, 1), std::log(4.0 / 3), 1e-6);
  EXPECT_NEAR(kl_divergence(even, odd), 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3), 1e-6);
  EXPECT_EQ(kl_divergence(odd, odd), 0);
  EXPECT_EQ(argmax(odd), 1);
}

}  // namespace
}  // namespace quell
