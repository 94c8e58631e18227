#include <gtest/gtest.h>

#include "quell/base/random.h"
#include "quell/kernels/gemm_u8s8/body_avx2.h"
#include "quell/kernels/gemm_u8s8/body_vnni.h"
#include "quell/kernels/gemm_u8s8/emulated.h"
#include "quell/kernels/gemm_u8s8/kernels.h"

namespace quell::kernels {
namespace {

struct Problem {
  std::int64_t m, n, k, ldx;
  std::vector<std::uint8_t> x;
  std::vector<std::int8_t> w;
};

/// Codes reach their bounds often, so that a saturating kernel would show.
Problem make_problem(std::int64_t m, std::int64_t n, std::int64_t k, int max_x, int max_w, std::uint64_t seed) {
  Problem p{m, n, k, (k + 3) / 4 * 4 + 4, {}, {}};
  Random rng(seed);
  p.x.assign(static_cast<std::size_t>(m * p.ldx), 0);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < k; ++j)
      p.x[static_cast<std::size_t>(i * p.ldx + j)] = static_cast<std::uint8_t>(
          rng.below(3) == 0 ? static_cast<std::uint64_t>(max_x) : rng.below(static_cast<std::uint64_t>(max_x) + 1));
  p.w.resize(static_cast<std::size_t>(n * k));
  for (auto& code : p.w) {
    const int magnitude = rng.below(3) == 0 ? max_w : static_cast<int>(rng.below(static_cast<std::uint64_t>(max_w) + 1));
    code = static_cast<std::int8_t>(rng.below(2) ? -magnitude : std::min(magnitude, 127));
  }
  return p;
}

std::vector<std::int32_t> naive(const Problem& p) {
  std::vector<std::int32_t> acc(static_cast<std::size_t>(p.m * p.n));
  for (std::int64_t i = 0; i < p.m; ++i)
    for (std::int64_t j = 0; j < p.n; ++j) {
      std::int32_t sum = 0;
      for (std::int64_t k = 0; k < p.k; ++k)
        sum += p.x[static_cast<std::size_t>(i * p.ldx + k)] * p.w[static_cast<std::size_t>(j * p.k + k)];
      acc[static_cast<std::size_t>(i * p.n + j)] = sum;
    }
  return acc;
}

void check(GemmU8S8 run, int max_product) {
  for (const auto [m, n, k] : {std::array<std::int64_t, 3>{1, 1, 1}, {3, 17, 5}, {9, 40, 64}, {13, 16, 130}, {2, 33, 768}})
    for (const auto [max_x, max_w] : {std::array<int, 2>{255, 128}, {255, 64}, {127, 128}, {63, 31}, {15, 7}}) {
      if (max_x * max_w > max_product) continue;
      const Problem p = make_problem(m, n, k, max_x, max_w, static_cast<std::uint64_t>(m * 1000 + n + max_x));
      const PackedWeights packed = pack_weights(p.w.data(), n, k);
      std::vector<std::int32_t> acc(static_cast<std::size_t>(m * n), -7);
      run(p.x.data(), p.ldx, packed, acc.data(), n, m, 0, n);
      ASSERT_EQ(acc, naive(p)) << m << "x" << n << "x" << k << " codes up to " << max_x << ", " << max_w;
    }
}

TEST(GemmU8S8, ReferenceEqualsNaiveSum) { check(gemm_u8s8_reference, 255 * 128); }
TEST(GemmU8S8, Avx2WidenEmulated) { check(avx2_gemm<EmulatedAvx2, true>, 255 * 128); }
TEST(GemmU8S8, Avx2MaddubsEmulated) { check(avx2_gemm<EmulatedAvx2, false>, 32767 / 2); }
TEST(GemmU8S8, Avx512VnniEmulated) { check(vnni_gemm<EmulatedVnni>, 255 * 128); }

class Native : public testing::TestWithParam<GemmU8S8Kernel> {};
TEST_P(Native, EqualsNaiveSum) {
  if (!cpu_supports(GetParam().isa))
    GTEST_SKIP() << "this processor lacks " << isa_name(GetParam().isa) << "; the emulated test ran";
  check(GetParam().run, GetParam().max_product);
}
INSTANTIATE_TEST_SUITE_P(GemmU8S8, Native, testing::ValuesIn(gemm_u8s8_kernels().begin(), gemm_u8s8_kernels().end()),
                         [](const auto& info) { return std::string(info.param.name) + "_native"; });

TEST(GemmU8S8, WritesOnlyItsColumns) {
  const Problem p = make_problem(4, 48, 12, 255, 127, 5);
  const PackedWeights packed = pack_weights(p.w.data(), p.n, p.k);
  const std::vector<std::int32_t> want = naive(p);
  for (const GemmU8S8Kernel& kernel : gemm_u8s8_kernels()) {
    if (!cpu_supports(kernel.isa) || 255 * 127 > kernel.max_product) continue;
    std::vector<std::int32_t> acc(want.size(), -7);
    kernel.run(p.x.data(), p.ldx, packed, acc.data(), p.n, p.m, 16, 40);
    for (std::size_t i = 0; i < acc.size(); ++i) EXPECT_EQ(acc[i], i % 48 >= 16 && i % 48 < 40 ? want[i] : -7);
  }
}

TEST(GemmU8S8, ChoiceNeverSaturates) {
  EXPECT_EQ(choose_gemm_u8s8(Isa::kAvx2, 255, 127).name, "avx2_widen");
  EXPECT_EQ(choose_gemm_u8s8(Isa::kAvx2, 255, 64).name, "avx2_maddubs");
  EXPECT_EQ(choose_gemm_u8s8(Isa::kAvx2, 63, 31).name, "avx2_maddubs");
  EXPECT_EQ(choose_gemm_u8s8(Isa::kPortable, 63, 31).name, "reference");
}

}  // namespace
}  // namespace quell::kernels
