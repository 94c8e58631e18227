#include "quell/quant/quantized_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "quell/base/exec_context.h"
#include "quell/base/random.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

/// The inputs of llm-compressor's int8 scheme: symmetric, a fresh step of half the range for every
/// token.
TEST(QuantizedRows, FreshStepsOfHalfTheRangeDivide) {
  constexpr std::int64_t kRows = 512, kColumns = 19;
  ActivationQuant quant;
  quant.spec.granularity = Granularity::kPerToken;
  quant.spec.dynamic = true;
  quant.spec.codes = CodeRange::kFull;
  quant.spec.step_rule = StepRule::kHalfRange;
  Random random(5);
  Tensor x = Tensor::f32({kRows, kColumns});
  for (float& v : x.f32()) v = static_cast<float>(6 * random.uniform() - 3);
  for (std::int64_t i = 0; i < kRows; ++i)
    x.row(i)[i % kColumns] = -4.0F - static_cast<float>(random.uniform());  // on the tie -127.5

  ExecContext ctx(1);
  const QuantizedRows rows = quantize_rows(x, quant, false, ctx);
  Tensor simulated = Tensor::f32({kRows, kColumns});
  fake_quantize_activations(x, quant, Rounding::kReciprocal, simulated.span(), ctx);

  bool products_differ = false;
  for (std::int64_t i = 0; i < kRows; ++i) {
    const float step = rows.scale[static_cast<std::size_t>(i)];
    for (std::int64_t j = 0; j < kColumns; ++j) {
      const auto code = [&](float quotient) {
        return std::clamp(std::nearbyint(quotient), -128.0F, 127.0F);
      };
      const float value = x.row(i)[j], expected = code(value / step);
      EXPECT_EQ(static_cast<float>(rows.row(i)[j]) - 128.0F, expected) << value << " / " << step;
      EXPECT_EQ(simulated.row(i)[j], expected * step);
      products_differ |= code(value * (1.0F / step)) != expected;
    }
  }
  EXPECT_TRUE(products_differ);  // else this test could not fail
}

}  // namespace
}  // namespace quell
