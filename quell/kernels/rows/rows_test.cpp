// Every ISA gives the reference's bytes, and the reference what the mathematics say.
#include "quell/kernels/rows/rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "quell/base/random.h"

namespace quell::kernels {
namespace {

std::vector<float> values(std::size_t n, double scale, std::uint64_t seed) {
  Random rng(seed);
  std::vector<float> v(n);
  for (auto& x : v) x = static_cast<float>((rng.uniform() - 0.5) * scale);
  return v;
}

constexpr CodeArgs kArgs = {37.0F, 120, 0, 255};

struct Named {
  const char* name;
  Isa isa;
};
class Rows : public testing::TestWithParam<Named> {
 protected:
  void SetUp() override {
    if (!cpu_supports(GetParam().isa))
      GTEST_SKIP() << "this processor lacks " << isa_name(GetParam().isa);
  }
  const RowKernels& k() const { return row_kernels(GetParam().isa); }
};

TEST_P(Rows, Normalize) {
  for (const std::size_t n : {1U, 5U, 16U, 40U, 768U, 771U})
    for (const bool centered : {false, true}) {
      std::vector<float> x = values(n, 6, n), w = values(n, 2, 2), b = values(n, 1, 3), y(n), z(n);
      x[n / 2] = 40;
      std::vector<std::uint8_t> codes(n), want(n);
      const auto count = static_cast<std::int64_t>(n);
      k().normalize(centered, x.data(), w.data(), b.data(), 1e-5, count,
                    {y.data(), codes.data(), kArgs});
      kRowsReference.normalize(centered, x.data(), w.data(), b.data(), 1e-5, count,
                               {z.data(), want.data(), kArgs});
      EXPECT_EQ(y, z);
      EXPECT_EQ(codes, want);
      double mean = 0, square = 0;
      for (const float v : x)
        mean += centered ? static_cast<double>(v) / static_cast<double>(n) : 0.0;
      for (const float v : x)
        square += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean) /
                  static_cast<double>(n);
      for (std::size_t i = 0; i < n; ++i)
        EXPECT_NEAR(static_cast<double>(y[i]),
                    (static_cast<double>(x[i]) - mean) / std::sqrt(square + 1e-5) *
                            static_cast<double>(w[i]) +
                        static_cast<double>(b[i]),
                    2e-5);
      k().quantize(y.data(), count, kArgs, want.data());
      EXPECT_EQ(codes, want) << "codes written on the way are those of the f32 values";
    }
}

TEST_P(Rows, Softmax) {
  for (const std::int64_t n : {1, 7, 16, 33, 128})
    for (const auto& [begin, end] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {0, n}, {n / 3, n}, {0, n - n / 4}, {n / 2, n / 2}}) {
      const auto size = static_cast<std::size_t>(n);
      std::vector<std::int32_t> mask(size, 1);
      for (std::size_t i = 2; i < size; i += 3) mask[i] = 0;
      const std::vector<float> scores = values(size, 30, size);
      std::vector<float> a = scores, b = scores, c = scores;
      std::vector<std::uint8_t> codes(size), want(size);
      const CodeArgs args = {255, 0, 0, 255};
      k().softmax(a.data(), begin, end, n, mask.data(), {a.data(), nullptr, {}});
      kRowsReference.softmax(b.data(), begin, end, n, mask.data(), {b.data(), nullptr, {}});
      EXPECT_EQ(a, b);
      b = scores;
      const std::int32_t sum =
          k().softmax(c.data(), begin, end, n, mask.data(), {nullptr, codes.data(), args});
      EXPECT_EQ(kRowsReference.softmax(b.data(), begin, end, n, mask.data(),
                                       {nullptr, want.data(), args}),
                sum);
      EXPECT_EQ(codes, want);
      double total = 0, code_sum = 0;
      for (std::int64_t i = begin; i < end; ++i)
        if (mask[static_cast<std::size_t>(i)])
          total += std::exp(static_cast<double>(scores[static_cast<std::size_t>(i)]));
      for (std::int64_t i = 0; i < n; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const bool seen = i >= begin && i < end && mask[at];
        const double p = total == 0 ? 1.0 / static_cast<double>(n)
                         : seen     ? std::exp(static_cast<double>(scores[at])) / total
                                    : 0.0;
        EXPECT_NEAR(static_cast<double>(a[at]), p, 1e-6);
        EXPECT_NEAR(codes[at], 255 * p, 0.51);
        code_sum += codes[at];
      }
      EXPECT_EQ(code_sum, sum);
    }
}

TEST_P(Rows, Activate) {
  std::vector<float> x = values(1003, 20, 4), y(x.size()), z(x.size());
  x[0] = -200;
  x[1] = 200;
  x[2] = 0;
  for (const auto kind : {Activation::kRelu, Activation::kRelu6, Activation::kGelu,
                          Activation::kGeluTanh, Activation::kSilu, Activation::kTanh}) {
    k().activate(kind, x.data(), y.data(), 1003);
    kRowsReference.activate(kind, x.data(), z.data(), 1003);
    EXPECT_EQ(y, z);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double v = static_cast<double>(x[i]);
      double want = 0;
      if (kind == Activation::kRelu) want = std::max(v, 0.0);
      if (kind == Activation::kRelu6) want = std::clamp(v, 0.0, 6.0);
      if (kind == Activation::kGelu) want = 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)));
      if (kind == Activation::kGeluTanh)
        want = 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
      if (kind == Activation::kSilu) want = v / (1 + std::exp(-v));
      if (kind == Activation::kTanh) want = std::tanh(v);
      EXPECT_NEAR(static_cast<double>(y[i]), want, 2e-6 * (1 + std::fabs(v))) << v;
    }
  }
}

TEST_P(Rows, QuantizeRoundsHalfToEvenAndClamps) {
  const std::vector<float> x = {-3,   -2.5F, -1.5F, -.5F,  -.25F,  0,          .25F, .5F, 1.5F,
                                2.5F, 3.5F,  9,     1e30F, -1e30F, 2.5000002F, -7,   1.5F};
  const std::vector<int> want = {-3, -2, -2, 0, 0, 0, 0, 0, 2, 2, 3, 3, 3, -3, 3, -3, 2};
  std::vector<std::uint8_t> out(x.size());
  const std::int32_t sum =
      k().quantize(x.data(), static_cast<std::int64_t>(x.size()), {1, 128, 125, 131}, out.data());
  std::int32_t expected = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(out[i] - 128, want[i]) << x[i];
    expected += out[i];
  }
  EXPECT_EQ(sum, expected);
}

TEST_P(Rows, PixelsAreTheCodesOfTheirPlanes) {
  for (const std::size_t planes : {1U, 2U, 3U, 4U})
    for (const std::size_t n : {1U, 15U, 16U, 100U}) {
      const auto count = static_cast<std::int64_t>(n);
      std::vector<std::vector<float>> x;
      std::vector<const float*> pointers;
      for (std::size_t c = 0; c < planes; ++c) x.push_back(values(n, 9, n + c));
      for (const std::vector<float>& plane : x) pointers.push_back(plane.data());

      std::vector<std::uint8_t> want(4 * n + 1, 0), pixels(4 * n + 1, 77), codes(n);
      want.back() = 77;  // not written
      for (std::size_t c = 0; c < planes; ++c) {
        k().quantize(x[c].data(), count, kArgs, codes.data());
        for (std::size_t i = 0; i < n; ++i) want[4 * i + c] = codes[i];
      }
      k().quantize_pixels(pointers.data(), static_cast<std::int64_t>(planes), count, kArgs,
                          pixels.data());
      EXPECT_EQ(pixels, want);
    }
}

TEST_P(Rows, Range) {
  for (const std::size_t n : {1U, 15U, 16U, 100U}) {
    const std::vector<float> x = values(n, 3, n + 7);
    const RowRange r = k().range(x.data(), static_cast<std::int64_t>(n));
    EXPECT_EQ(r.min, *std::min_element(x.begin(), x.end()));
    EXPECT_EQ(r.max, *std::max_element(x.begin(), x.end()));
  }
}

/// Around every tie, a few representable numbers to each side.
TEST_P(Rows, CodesNearTiesAreThoseOfTheQuotient) {
  for (const float step : {0.1F, 0.0033F, 1.0F / 3.0F, 7.77F, 1.5e-7F}) {
    std::vector<float> x;
    for (int tie = -300; tie < 300; ++tie) {
      float v = (static_cast<float>(tie) + 0.5F) * step;
      for (int i = 0; i < 4; ++i) v = std::nextafter(v, -INFINITY);
      for (int i = 0; i < 9; ++i, v = std::nextafter(v, INFINITY)) x.push_back(v);
    }
    x.insert(x.end(), {1e30F, -1e30F, 0.0F, 400.4F * step, -400.6F * step});
    const std::vector<float> ones(x.size(), 1.0F);
    for (const CodeArgs& args :
         {CodeArgs{1, 128, 1, 255}, CodeArgs{1, 0, 0, 255}, CodeArgs{1, 255, 0, 255}}) {
      std::vector<std::uint8_t> codes(x.size()), without_factors(x.size());
      const auto count = static_cast<std::int64_t>(x.size());
      k().quantize_scaled(x.data(), ones.data(), Factor::kDivide, count, step, args, codes.data());
      k().quantize_scaled(x.data(), nullptr, Factor::kNone, count, step, args,
                          without_factors.data());
      EXPECT_EQ(codes, without_factors);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double want = std::nearbyint(static_cast<double>(x[i] / step)) + args.zero;
        ASSERT_EQ(codes[i],
                  std::clamp(want, static_cast<double>(args.low), static_cast<double>(args.high)))
            << x[i] << " / " << step;
      }
    }
  }
}

TEST_P(Rows, CandidatesAreScaledAsWritten) {
  for (const std::size_t n : {1U, 15U, 16U, 100U}) {
    const auto count = static_cast<std::int64_t>(n);
    const std::vector<float> x = values(n, 3, n + 1), y = values(n, 3, n + 2);
    std::vector<float> factor = values(n, 2, n + 3);
    for (float& f : factor) f = std::fabs(f) + 0.5F;
    double squares = 0;
    for (std::size_t i = 0; i < n; ++i)
      squares += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
    EXPECT_NEAR(k().squared_difference(x.data(), y.data(), count), squares, 1e-12 * squares);
    EXPECT_EQ(k().squared_difference(x.data(), y.data(), count),
              kRowsReference.squared_difference(x.data(), y.data(), count));
    for (const Factor kind : {Factor::kMultiply, Factor::kDivide}) {
      std::vector<float> scaled(n);
      for (std::size_t i = 0; i < n; ++i)
        scaled[i] = kind == Factor::kMultiply ? x[i] * factor[i] : x[i] / factor[i];
      const RowRange r = k().scaled_range(x.data(), factor.data(), kind, count);
      EXPECT_EQ(r.min, *std::min_element(scaled.begin(), scaled.end()));
      EXPECT_EQ(r.max, *std::max_element(scaled.begin(), scaled.end()));
      constexpr float kStep = 0.037F;
      std::vector<std::uint8_t> codes(n);
      const std::int32_t sum = k().quantize_scaled(x.data(), factor.data(), kind, count, kStep,
                                                   {1, 30, 0, 63}, codes.data());
      std::int32_t want = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const float code = std::clamp(std::nearbyint(scaled[i] / kStep) + 30, 0.0F, 63.0F);
        EXPECT_EQ(static_cast<float>(codes[i]), code) << i;
        want += codes[i];
      }
      EXPECT_EQ(sum, want);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Rows,
                         testing::Values(Named{"reference", Isa::kPortable},
                                         Named{"avx2", Isa::kAvx2},
                                         Named{"avx512", Isa::kAvx512Vnni}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace quell::kernels
