// Golden numbers of the official implementations (Outlier Suppression, Outlier Suppression+).
#include "quell/quant/quant_spec.h"

#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/quant/observers/minimize.h"
#include "quell/quant/observers/observer.h"
#include "quell/quant/quantize.h"
#include "quell/quant/rounding.h"
#include "tests/support/golden_numbers.h"

namespace quell {
namespace {

QuantSpec spec(int bits, bool symmetric, bool os = false) {
  QuantSpec s{bits, symmetric};
  if (os) s.codes = CodeRange::kFull, s.step_rule = StepRule::kHalfRange;
  return s;
}

void expect(Range range, const QuantSpec& s, float scale, int zero) {
  const StepAndZero qp = calculate_qparams(range, s);
  EXPECT_FLOAT_EQ(qp.scale, scale);
  EXPECT_EQ(qp.zero_point, zero);
}

TEST(CalculateQParams, OutlierSuppressionPlus) {
  expect({-1, 3}, spec(8, true), 0.0236220472F, 0);
  expect({-1, 3}, spec(8, false), 0.0156862754F, 64);
  expect({-1, 3}, spec(6, false), 0.0634920672F, 16);
  expect({-1, 3}, spec(4, true), 0.428571433F, 0);
  expect({-1, 3}, spec(4, false), 0.266666681F, 4);
  expect({-2, -0.5F}, spec(8, false), 0.00784313772F, 255);
  expect({0.25F, 3}, spec(6, false), 0.0476190485F, 0);
  expect({0, 0}, spec(8, false), 1.1920929e-07F, 0);
  expect({0, 0}, spec(8, true), 1.1920929e-07F, 0);
}

TEST(CalculateQParams, OutlierSuppression) {
  expect({-1, 3}, spec(8, true, true), 0.0235294122F, 0);
  expect({-1, 3}, spec(6, true, true), 0.095238097F, 0);
  expect({-1, 3}, spec(4, true, true), 0.400000006F, 0);
  expect({0, 0}, spec(8, true, true), 9.99999994e-09F, 0);
  for (const auto& [bits, zero] : {std::pair(8, 127), {6, 31}, {4, 7}})
    EXPECT_EQ(calculate_qparams({-4, 4}, spec(bits, false)).zero_point, zero);
}

TEST(FakeQuantize, TiesRoundToEvenAndZeroIsAddedAfterwards) {
  const std::vector<float> x = {-3, -2.5F, -1.5F, -.5F, -.25F, 0, .25F, .5F, 1.5F, 2.5F, 3.5F, 9};
  std::vector<float> out(x.size());
  fake_quantize(x, {1, 0}, spec(3, true), Rounding::kDivide, out);
  EXPECT_EQ(out, (std::vector<float>{-3, -2, -2, 0, 0, 0, 0, 0, 2, 2, 3, 3}));
  fake_quantize(x, {.5F, 3}, spec(3, false), Rounding::kDivide, out);
  EXPECT_EQ(out, (std::vector<float>{-1.5F, -1.5F, -1.5F, -.5F, 0, 0, 0, .5F, 1.5F, 2, 2, 2}));
}

TEST(FakeQuantize, PerGroupAndPerToken) {
  const std::vector<float> w = {0.294278055F, 0.433333993F, -0.488839597F,  -0.469284475F,
                                0.497506529F, 0.303807825F, -0.0446609966F, -0.10859859F};
  QuantSpec group = spec(4, false);
  group.granularity = Granularity::kPerGroup;
  group.group_size = 4;
  const Tensor got = dequantize(quantize_weight(Tensor::from<float>(w, {1, 8}), group));
  const float want[] = {0.307391226F, 0.430347681F, -0.491825938F,  -0.491825938F,
                        0.484884083F, 0.323256046F, -0.0404070057F, -0.121221021F};
  for (std::size_t i = 0; i < 8; ++i) EXPECT_FLOAT_EQ(got.f32()[i], want[i]);

  const float x0[] = {-0.52708894F, 17.2156239F,   0.0084840646F, 0.409766525F,
                      -29.4945641F, -0.260963291F, 0.549525917F,  0.112377144F};
  const float shift[] = {-0.0257766545F, 18.0899639F,   -0.16243948F,  -0.275927663F,
                         -24.9919529F,   0.0988735557F, 0.0012460351F, 0.00674653053F};
  const float token[] = {-0.345887035F, -1.03766108F,  0,           0.69177407F,
                         -4.49653149F,  -0.345887035F, 0.69177407F, 0};
  Tensor row = Tensor::f32({1, 8});
  for (std::size_t i = 0; i < 8; ++i) row.f32()[i] = x0[i] - shift[i];
  QuantSpec per_token = spec(4, false);
  per_token.granularity = Granularity::kPerToken;
  per_token.dynamic = true;
  ExecContext ctx(1);
  fake_quantize_activations(row, {per_token, {}}, Rounding::kDivide, row.span(), ctx);
  for (std::size_t i = 0; i < 8; ++i) EXPECT_NEAR(row.f32()[i], token[i], 2e-6F);
}

TEST(QuantizeWeight, RowStepsDivideExactlyByPowersOfTwo) {
  const std::vector<float> w = {0.294278055F, 0.433333993F, -0.488839597F,  -0.469284475F,
                                0.497506529F, 0.303807825F, -0.0446609966F, -0.10859859F};
  QuantSpec rows = spec(4, false);
  rows.granularity = Granularity::kPerChannel;
  QTensor q = quantize_weight(Tensor::from<float>(w, {1, 8}), rows);
  EXPECT_FLOAT_EQ(q.qparams.scale.f32()[0], 0.0657564104F);
  EXPECT_EQ(q.qparams.at(0).zero_point, 7);
  const std::vector<int> codes = {11, 14, 0, 0, 15, 12, 6, 5};
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(q.codes.as<std::int16_t>()[i], codes[i]);
  const Tensor before = dequantize(q);
  const float divisor[] = {8};
  divide_row_steps(q, divisor);
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(dequantize(q).f32()[i], before.f32()[i] / 8);
}

TEST(QuantizeWeight, RefusesAGroupSizeThatDoesNotDivide) {
  QuantSpec group = spec(4, false);
  group.granularity = Granularity::kPerGroup;
  group.group_size = 3;
  EXPECT_THROW(quantize_weight(Tensor::f32({2, 8}), group), Error);
}

TEST(Observers, AverageExponentialAndOverall) {
  const std::vector<Range> batches = {
      {-9.91114426F, 7.768466F}, {-19.8222885F, 15.536932F}, {-29.7334328F, 23.305398F}};
  const auto run = [&](const char* name) {
    const auto observer = make_observer({name});
    for (const Range& r : batches) observer->observe(r);
    return observer->range();
  };
  EXPECT_FLOAT_EQ(run("avg_minmax").min, -19.8222885F);
  EXPECT_FLOAT_EQ(run("avg_minmax").max, 15.536931F);
  EXPECT_EQ(run("minmax").min, batches[2].min);
  EXPECT_FLOAT_EQ(run("ema_minmax").max,
                  0.9F * (0.9F * 7.768466F + 0.1F * 15.536932F) + 0.1F * 23.305398F);
  EXPECT_THROW(make_observer({"median"}), Error);
}

/// Values of the specification's vectors 7 and 8: rows of a linear congruence, row i times i + 1.
class ValueObservers : public ::testing::Test {
 protected:
  ValueObservers() {
    const Tensor tokens = quell::testing::golden_tokens();
    values.assign(tokens.f32().begin(), tokens.f32().end());
    refer();
  }
  void refer() {
    rows.clear();
    for (std::size_t i = 0; i < 10; ++i) rows.emplace_back(values.data() + 4 * i, 4);
  }
  std::vector<float> values;
  std::vector<std::span<const float>> rows;
};

TEST_F(ValueObservers, RecordedRanges) {
  EXPECT_FLOAT_EQ(min_max_range(rows).min, -9.91114426F);
  EXPECT_FLOAT_EQ(min_max_range(rows).max, 7.768466F);
  const Range q = quantile_range(rows, 0.9, 16);
  EXPECT_FLOAT_EQ(q.min, -5.88474178F);
  EXPECT_FLOAT_EQ(q.max, 5.88474178F);
  QuantSpec four = spec(4, true);
  Range r = mse_range(rows, four);
  EXPECT_FLOAT_EQ(r.min, -9.91114426F);
  EXPECT_FLOAT_EQ(r.max, 9.91114426F);
  EXPECT_FLOAT_EQ(calculate_qparams(r, four).scale, 1.4158777F);
  four.symmetric = false;
  r = mse_range(rows, four);
  EXPECT_FLOAT_EQ(r.min, -8.76908684F);
  EXPECT_FLOAT_EQ(r.max, 7.67295074F);
  EXPECT_FLOAT_EQ(calculate_qparams(r, four).scale, 1.09613585F);
  EXPECT_EQ(calculate_qparams(r, four).zero_point, 8);
  for (float& v : values) v = std::fabs(v);
  r = mse_range(rows, four);
  EXPECT_EQ(r.min, 0.0F);
  EXPECT_FLOAT_EQ(r.max, 9.8120327F);
}

/// The official code of Outlier Suppression: steps are half the range by 2^b - 1.
TEST(WeightRange, ThreeStandardDeviationsAsLsqPlusStarts) {
  QuantSpec rows = spec(4, true, true);
  rows.granularity = Granularity::kPerChannel;
  const QTensor q = quantize_weight(quell::testing::GoldenNumbers(5).make({3, 8}, -1, 1), rows,
                                    three_sigma_range);
  const float want[] = {0.208543807F, 0.301066726F, 0.256305397F};
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(q.qparams.scale.f32()[i], want[i], 1e-7F);
}

/// Minima as scipy 1.16's minimize_scalar(method="bounded", xatol=1e-5) finds them, here and in the
/// functions below.
TEST_F(ValueObservers, FastRangesAreThoseOfBrentsSearch) {
  constexpr float kNear = 1e-4F;
  Range r = fast_mse_range(rows, spec(4, true));
  EXPECT_NEAR(r.max, 9.743557F, kNear);
  EXPECT_NEAR(r.min, -9.743557F, kNear);
  EXPECT_NEAR(fast_mse_range(rows, spec(6, true)).max, 9.630246F, kNear);
  r = fast_mse_range(rows, spec(4, false));
  EXPECT_NEAR(r.min, -8.673695F, kNear);
  EXPECT_NEAR(r.max, 7.768466F, kNear);
  r = fast_mse_range(rows, spec(6, false));
  EXPECT_NEAR(r.min, -9.819739F, kNear);
  EXPECT_NEAR(r.max, 7.768466F, kNear);
  for (float& v : values) v = std::fabs(v);
  r = fast_mse_range(rows, spec(4, false));
  EXPECT_EQ(r.min, 0.0F);
  EXPECT_NEAR(r.max, 9.790920F, kNear);
  EXPECT_NEAR(fast_mse_range(rows, spec(6, false)).max, 9.911138F, kNear);
  for (float& v : values) v = 0;
  EXPECT_EQ(fast_mse_range(rows, spec(4, false)).max, 0.0F);
}

TEST(MinimizeBounded, AgreesWithScipy) {
  EXPECT_NEAR(minimize_bounded([](double x) { return std::cos(x) + 0.1 * x; }, 0, 6),
              3.0414262004194264, 1e-9);
  EXPECT_NEAR(minimize_bounded([](double x) { return std::pow(x - 1.3, 4) + 0.2 * x; }, -3, 4),
              0.9315958521470418, 1e-9);
  EXPECT_NEAR(minimize_bounded([](double x) { return std::fabs(x - 2.2) + 0.01 * x * x; }, 0, 10),
              2.1999979595617143, 1e-9);
  int evaluations = 0;
  const auto edge = [&](double x) {
    ++evaluations;
    return x;
  };
  EXPECT_NEAR(minimize_bounded(edge, 1, 2), 1.0000059608609866, 1e-9);
  EXPECT_EQ(evaluations, 25);
}

TEST_F(ValueObservers, CombineBatches) {
  const auto over = [&](const ObserverChoice& choice) {
    const auto observer = make_observer(choice, spec(4, true));
    for (const float factor : {1.0F, 0.5F}) {
      std::vector<float> scaled;
      for (const float v : values) scaled.push_back(v * factor);
      std::vector<std::span<const float>> parts;
      for (std::size_t i = 0; i < 10; ++i) parts.emplace_back(scaled.data() + 4 * i, 4);
      observer->observe(parts);
    }
    return observer->range();
  };
  const float q = quantile_range(rows, 0.8).max;
  EXPECT_FLOAT_EQ(over({"avg_quantile", 0.8}).max, 0.75F * q);
  EXPECT_FLOAT_EQ(over({"ema_quantile", 0.8}).max, 0.95F * q);
  EXPECT_FLOAT_EQ(over({"mse"}).max, mse_range(rows, spec(4, true)).max);
  EXPECT_FLOAT_EQ(over({"avg_mse"}).max, 0.75F * mse_range(rows, spec(4, true)).max);
  EXPECT_FLOAT_EQ(over({"ema_mse_fast"}).max, 0.95F * fast_mse_range(rows, spec(4, true)).max);
  EXPECT_LE(over({"avg_quantile"}).max, over({"avg_minmax"}).max);
  for (float& v : values) v = 0;
  refer();
  EXPECT_EQ(quantile_range(rows, 0.9).max, 0.0F);
  EXPECT_EQ(mse_range(rows, spec(4, false)).max, 0.0F);
}

TEST(RoundHalfEven, EqualsTheLibrary) {
  for (float x = -10; x < 10; x += 0.125F) EXPECT_EQ(round_half_even(x), std::nearbyint(x));
  for (const float x : {4194303.5F, 4194304.0F, 8388609.0F, 1e30F, -1e30F})
    EXPECT_EQ(round_half_even(x), std::nearbyint(x));
}

}  // namespace
}  // namespace quell
