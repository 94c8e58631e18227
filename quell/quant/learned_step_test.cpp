// Golden vector 9 of the specification: LSQ+ in the official code of Outlier Suppression.
#include "quell/quant/learned_step.h"

#include <gtest/gtest.h>

#include <cmath>

#include "quell/quant/adam.h"
#include "quell/quant/quantize.h"
#include "tests/support/golden_numbers.h"

namespace quell {
namespace {

constexpr QuantSpec kSpec{6, false, Granularity::kPerTensor, 0, false};

/// Mean squared error of the quantized values, and its gradient to step and zero point, LSQ's
/// factor inside.
double error_of(std::span<const float> x, const StepAndZero& q, StepGradient& found) {
  std::vector<float> y(x.size());
  fake_quantize(x, q, kSpec, Rounding::kDivide, y);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double d = static_cast<double>(y[i]) - static_cast<double>(x[i]);
    sum += d * d / static_cast<double>(x.size());
    y[i] = static_cast<float>(2 * d / static_cast<double>(x.size()));
  }
  fake_quantize_backward(x, q, kSpec, y, found);
  const double factor = step_gradient_factor(static_cast<std::int64_t>(x.size()), kSpec);
  found = {found.scale * factor, found.zero_point * factor};
  return sum;
}

TEST(LearnedStep, GoldenGradientAndTwentyFourSteps) {
  const Tensor tokens = quell::testing::golden_tokens();
  const std::span<const float> x = tokens.f32();
  StepAndZero q{0.16837725F, 35};
  StepGradient g;
  EXPECT_NEAR(error_of(x, q, g), 0.728792608, 2e-7);
  EXPECT_NEAR(g.scale, -0.326383114, 1e-6);
  EXPECT_NEAR(g.zero_point, 9.79660836e-05, 1e-9);

  CosineAdam adam(2, 1e-5, 24);
  std::vector<float> parameters{q.scale, static_cast<float>(q.zero_point)};
  double last = 0;
  for (int step = 0; step < 24; ++step) {
    StepGradient at;
    last = error_of(x, q, at);
    adam.step(std::vector{at.scale, at.zero_point}, parameters);
    q = {parameters[0], static_cast<std::int32_t>(std::nearbyint(parameters[1]))};
  }
  EXPECT_NEAR(parameters[0], 0.168502241F, 2e-8);
  EXPECT_NEAR(parameters[1], 34.9998741F, 4e-6);
  EXPECT_NEAR(last, 0.72671926, 2e-6);
  adam.step(std::vector{1.0, 1.0}, parameters);  // behind the end of the schedule
  EXPECT_NEAR(parameters[0], 0.168502241F, 2e-8);
}

/// By hand: clipped values give nothing to x, (code - z) to the step and -step to the zero point.
TEST(LearnedStep, ClippedValuesMoveStepAndZeroPointOnly) {
  const std::vector<float> x{-100, 0.3F, 100};
  std::vector<float> gradient{1, 1, 1};
  StepGradient g;
  fake_quantize_backward(x, {0.5F, 30}, kSpec, gradient, g);
  EXPECT_EQ(gradient, (std::vector<float>{0, 1, 0}));
  EXPECT_DOUBLE_EQ(g.scale, -30 + 33 + static_cast<double>(1 - 0.3F / 0.5F));
  EXPECT_DOUBLE_EQ(g.zero_point, -1.0);
}

}  // namespace
}  // namespace quell
