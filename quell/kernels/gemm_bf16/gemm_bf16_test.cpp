// Packed bf16 weights give what rounded weights give in doubles, and the same bytes on every ISA.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "quell/base/bf16.h"
#include "quell/base/random.h"
#include "quell/kernels/gemm_bf16/gemm_bf16.h"
#include "quell/kernels/simd/emulated_tiles.h"

#define QUELL_TILE_DP(c, a, b) quell::kernels::emulated_tiles.dpbf16ps(c, a, b)
#include "quell/kernels/gemm_bf16/body_amx.h"

namespace quell::kernels {
namespace {

std::vector<float> random_values(std::size_t count, std::uint64_t seed) {
  Random rng(seed);
  std::vector<float> out(count);
  for (float& v : out) v = static_cast<float>(rng.uniform() * 2 - 1);
  return out;
}

TEST(GemmBf16, RoundsHalfToEven) {
  const std::vector<float> w = {1.0F, 1.0F + 0x1p-8F, 1.0F + 3 * 0x1p-8F, -1.0F - 0x1.1p-8F, 0.0F};
  const Bf16Weights packed = pack_bf16(w.data(), 5, 1);
  std::vector<float> out(32);
  kBf16Reference.unpack(packed, 0, 1, out.data());
  EXPECT_EQ(std::vector<float>(out.begin(), out.begin() + 6),
            (std::vector<float>{1.0F, 1.0F, 1.0F + 4 * 0x1p-8F, -1.0F - 2 * 0x1p-8F, 0.0F, 0.0F}));
}

/// Rounded x times rounded w in doubles against `multiply`, on odd shapes; nothing outside y is
/// written.
void check_rounded(decltype(Bf16Kernels::multiply_rounded) multiply) {
  for (const auto [m, n, k] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 1},
                                                                       {2, 15, 3},
                                                                       {15, 16, 31},
                                                                       {16, 17, 32},
                                                                       {17, 33, 33},
                                                                       {31, 64, 65},
                                                                       {33, 31, 96},
                                                                       {50, 100, 300}}) {
    const auto x = random_values(static_cast<std::size_t>(m * k), 1),
               w = random_values(static_cast<std::size_t>(n * k), 2),
               bias = random_values(static_cast<std::size_t>(n), 3);
    const Bf16Weights packed = pack_bf16(w.data(), n, k);
    const std::int64_t depth = packed.padded_k(), ldy = n + 3;
    std::vector<std::uint16_t> rounded(static_cast<std::size_t>(m * depth));
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t l = 0; l < k; ++l)
        rounded[static_cast<std::size_t>(i * depth + l)] =
            f32_to_bf16(x[static_cast<std::size_t>(i * k + l)]);
    std::vector<float> y(static_cast<std::size_t>(m * ldy), 7.0F);
    multiply(rounded.data(), m, packed, bias.data(), y.data(), ldy, 0, packed.panels());
    const auto value = [](float v) { return static_cast<double>(bf16_to_f32(f32_to_bf16(v))); };
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < ldy; ++j) {
        double want = 7;
        if (j < n) want = static_cast<double>(bias[static_cast<std::size_t>(j)]);
        for (std::int64_t l = 0; j < n && l < k; ++l)
          want += value(x[static_cast<std::size_t>(i * k + l)]) *
                  value(w[static_cast<std::size_t>(j * k + l)]);
        EXPECT_NEAR(static_cast<double>(y[static_cast<std::size_t>(i * ldy + j)]), want,
                    1e-6 * static_cast<double>(k + 1))
            << m << "x" << n << "x" << k << " at " << i << ", " << j;
      }
  }
}

TEST(GemmBf16, AmxEmulated) { check_rounded(amx_multiply); }
TEST(GemmBf16, Amx) {
  if (!cpu_supports(Isa::kAmx)) GTEST_SKIP() << "this processor has no AMX";
  check_rounded(bf16_kernels(Isa::kAmx).multiply_rounded);
}

TEST(GemmBf16, NanAndInfinityStay) {
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::infinity()), 0x7f80);
  EXPECT_EQ(f32_to_bf16(-std::numeric_limits<float>::infinity()), 0xff80);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x7fffffffU)) & 0x7fc0, 0x7fc0);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x7f800001U)) & 0x7fc0, 0x7fc0);
}

TEST(GemmBf16, EqualsDoublesAndTheReferenceOnOddShapes) {
  for (const auto [m, n, k] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 1},
                                                                       {2, 15, 3},
                                                                       {3, 16, 7},
                                                                       {4, 17, 64},
                                                                       {5, 31, 65},
                                                                       {7, 33, 2},
                                                                       {16, 96, 129},
                                                                       {1, 100, 300}}) {
    const auto x = random_values(static_cast<std::size_t>(m * k), 1),
               w = random_values(static_cast<std::size_t>(n * k), 2),
               bias = random_values(static_cast<std::size_t>(n), 3);
    const Bf16Weights packed = pack_bf16(w.data(), n, k);
    const std::int64_t width = packed.panels() * kBf16Panel;
    std::vector<float> rounded(static_cast<std::size_t>(k * width));
    kBf16Reference.unpack(packed, 0, packed.panels(), rounded.data());
    std::vector<float> want(static_cast<std::size_t>(m * n));
    kBf16Reference.multiply(x.data(), k, m, packed, bias.data(), want.data(), n, 0,
                            packed.panels());
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = static_cast<double>(bias[static_cast<std::size_t>(j)]);
        for (std::int64_t l = 0; l < k; ++l) {
          const double r = static_cast<double>(rounded[static_cast<std::size_t>(l * width + j)]);
          EXPECT_NEAR(r, static_cast<double>(w[static_cast<std::size_t>(j * k + l)]), 0x1p-9);
          sum += r * static_cast<double>(x[static_cast<std::size_t>(i * k + l)]);
        }
        EXPECT_NEAR(static_cast<double>(want[static_cast<std::size_t>(i * n + j)]), sum,
                    1e-6 * static_cast<double>(k + 1));
      }
    for (const Isa isa : {Isa::kAvx2, Isa::kAvx512Vnni}) {
      if (!cpu_supports(isa)) continue;
      std::vector<float> got(want.size()), unpacked(rounded.size());
      bf16_kernels(isa).multiply(x.data(), k, m, packed, bias.data(), got.data(), n, 0,
                                 packed.panels());
      bf16_kernels(isa).unpack(packed, 0, packed.panels(), unpacked.data());
      EXPECT_EQ(got, want) << isa_name(isa);
      EXPECT_EQ(unpacked, rounded) << isa_name(isa);
    }
  }
}

}  // namespace
}  // namespace quell::kernels
