// Codes that are made of float weights when they are read, against the formulas in double.
#include <gtest/gtest.h>

#include <cmath>

#include "quell/base/random.h"
#include "quell/model/bitnet_layout.h"
#include "quell/model/paretoq_layout.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

constexpr std::int64_t kCodeRows = 7, kCodeColumns = 40;

Tensor random_weight(double size) {
  Random random(5);
  Tensor w = Tensor::f32({kCodeRows, kCodeColumns});
  for (float& v : w.f32()) v = static_cast<float>(size * (2 * random.uniform() - 1));
  w.f32()[3] = 0;
  return w;
}

void expect_weights(const QTensor& q, const std::vector<double>& want, double largest_step) {
  const Tensor got = dequantize(q);
  ASSERT_EQ(got.f32().size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i)
    EXPECT_NEAR(static_cast<double>(got.f32()[i]), want[i], 1e-6 * largest_step) << i;
}

TEST(LowBitCodes, BitNetRoundsByTheMean) {
  for (const double size : {0.7, 1e-7}) {
    const Tensor w = random_weight(size);
    double mean = 0;
    for (const float v : w.f32())
      mean += std::fabs(static_cast<double>(v)) / (kCodeRows * kCodeColumns);
    mean = std::max(mean, 1e-5);

    std::vector<double> want;
    for (const float v : w.f32()) {
      const double ratio = static_cast<double>(v) / mean;
      want.push_back(mean * std::fmin(1, std::fmax(-1, std::nearbyint(ratio))));
    }
    const QTensor q = quantize_by_mean(w);
    expect_weights(q, want, mean);
    EXPECT_EQ(q.spec.num_bits, 2);
    EXPECT_EQ(q.qparams.scale.numel(), 1);
  }
}

/// A weight of ParetoQ as its paper writes it (section 4.1), with a float for each level.
double paretoq_weight(double w, double clip, int bits) {
  const double a = std::max(clip, 1e-5);
  if (bits == 1) return w == 0 ? 0 : std::copysign(a, w);
  if (bits >= 3) {
    const double high = std::pow(2, bits - 1);
    return a * std::fmin(high - 1, std::fmax(-high, std::nearbyint(w / a)));
  }
  const double levels = bits == 0 ? 1.5 : 2;
  const double shift = bits == 0 ? 0 : 0.5;
  const double clamped = std::fmin(0.99, std::fmax(-0.99, w / a));
  return a * (std::nearbyint(clamped * levels - shift) + shift) / levels;
}

TEST(LowBitCodes, ParetoqRoundsByTheClipOfTheRow) {
  const Tensor w = random_weight(0.7);
  for (const int bits : {0, 1, 2, 3, 4}) {
    SCOPED_TRACE(bits);
    std::vector<float> clips;
    for (std::int64_t r = 0; r < kCodeRows; ++r)
      clips.push_back(0.05F + 0.1F * static_cast<float>(r));
    clips[1] = -3;  // learned clips may fall below what counts

    std::vector<double> want;
    for (std::int64_t r = 0; r < kCodeRows; ++r)
      for (std::int64_t c = 0; c < kCodeColumns; ++c)
        want.push_back(paretoq_weight(static_cast<double>(w.row(r)[c]),
                                      static_cast<double>(clips[static_cast<std::size_t>(r)]),
                                      bits));
    const QTensor q = quantize_by_clip(w, clips, bits);
    expect_weights(q, want, 1);
    EXPECT_EQ(q.qparams.scale.numel(), kCodeRows);

    int most = 0;
    for (const std::int16_t code : q.codes.as<std::int16_t>()) {
      EXPECT_GE(code, q.spec.min_code());
      EXPECT_LE(code, q.spec.max_code());
      most = std::max(most, std::abs(static_cast<int>(code)));
    }
    EXPECT_EQ(most, std::vector<int>({1, 1, 3, 4, 8})[static_cast<std::size_t>(bits)]);
  }
}

}  // namespace
}  // namespace quell
