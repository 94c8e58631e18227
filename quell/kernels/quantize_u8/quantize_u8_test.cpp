#include "quell/kernels/quantize_u8/quantize_u8.h"

#include <gtest/gtest.h>

#include <vector>

#include "quell/base/random.h"

namespace quell::kernels {
namespace {

TEST(QuantizeU8, RoundsHalfToEvenAndClamps) {
  const std::vector<float> x = {-3, -2.5F, -1.5F, -.5F, -.25F, 0, .25F, .5F, 1.5F, 2.5F, 3.5F, 9, 1e30F, -1e30F};
  std::vector<std::uint8_t> out(x.size());
  quantize_u8_reference(x.data(), static_cast<std::int64_t>(x.size()), {1, 0, -3, 3, 128}, out.data());
  const std::vector<int> want = {-3, -2, -2, 0, 0, 0, 0, 0, 2, 2, 3, 3, 3, -3};
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(out[i] - 128, want[i]) << x[i];
}

TEST(QuantizeU8, Avx2EqualsReference_native) {
  if (!cpu_supports(Isa::kAvx2)) GTEST_SKIP() << "this processor lacks avx2";
  Random rng(3);
  std::vector<float> x(1003);
  for (auto& v : x) v = static_cast<float>(static_cast<int>(rng.below(2000)) - 1000) / (rng.below(2) ? 2.0F : 7.0F);
  for (const QuantizeU8Args& args : {QuantizeU8Args{1.0F, 100, 0, 255, 0}, {0.37F, 31, 0, 63, 0}, {0.9F, 0, -127, 127, 128}}) {
    std::vector<std::uint8_t> a(x.size()), b(x.size());
    const auto n = static_cast<std::int64_t>(x.size());
    const auto sum = quantize_u8_reference(x.data(), n, args, a.data());
#if defined(QUELL_X86_64)
    EXPECT_EQ(quantize_u8_avx2(x.data(), n, args, b.data()), sum);
    EXPECT_EQ(a, b);
#endif
  }
}

}  // namespace
}  // namespace quell::kernels
