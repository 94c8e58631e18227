// Golden vector 7 of the reference's token-wise observer, and what a percentile must never do.
#include "quell/compress/token_clipping.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "quell/base/error.h"
#include "tests/support/golden_numbers.h"

namespace quell {
namespace {

TokenExtrema golden_extrema() {
  const Tensor values = quell::testing::golden_tokens();
  TokenExtrema tokens;
  for (std::int64_t i = 0; i < values.rows(); ++i) {
    const auto [low, high] = std::minmax_element(values.row(i), values.row(i) + values.cols());
    tokens.max.push_back(*high);
    tokens.min.push_back(*low);
  }
  return tokens;
}

TEST(TokenClipping, GoldenRanges) {
  const TokenExtrema tokens = golden_extrema();
  EXPECT_FLOAT_EQ(tokens.max[0], 0.747317135F);
  EXPECT_FLOAT_EQ(tokens.max[8], -1.91618514F);
  const auto expect = [&](double p, float low, float high) {
    const Range r = clip_tokens(tokens, std::vector{p}).front();
    EXPECT_FLOAT_EQ(r.min, low) << p;
    EXPECT_FLOAT_EQ(r.max, high) << p;
  };
  expect(1.0, -9.91114426F, 7.768466F);
  expect(0.99, -6.30546474F, 5.78847885F);
  expect(0.9, -6.30546474F, 5.78847885F);
  expect(0.7, -3.32804465F, 3.30429125F);
  expect(0.5, -2.79645896F, 1.75201273F);
}

TEST(TokenClipping, OneTokenIsNeverLeftOut) {
  const TokenExtrema one{{2.5F}, {-1.0F}};
  for (const Range& r : clip_tokens(one, std::vector{1.0, 0.5, 0.0})) {
    EXPECT_EQ(r.max, 2.5F);
    EXPECT_EQ(r.min, -1.0F);
  }
  EXPECT_THROW(clip_tokens({}, std::vector{1.0}), Error);
}

}  // namespace
}  // namespace quell
