// Every ISA gives the reference's bytes, and the reference what the sums say.
#include "quell/kernels/kv/kv.h"

#include <gtest/gtest.h>

#include <vector>

#include "quell/base/random.h"

namespace quell::kernels {
namespace {

TEST(Kv, EveryIsaEqualsTheReferenceAndPlainSums) {
  Random rng(1);
  const auto uniform = [&] { return static_cast<float>(rng.uniform() - 0.5); };
  for (const std::int64_t d : {1, 12, 32, 64, 80})
    for (const std::int64_t tokens : {1, 15, 16, 33}) {
      const std::int64_t room = (tokens + 15) / 16 * 16;
      const auto size = static_cast<std::size_t>(room * d), width = static_cast<std::size_t>(room);
      std::vector<float> q(static_cast<std::size_t>(d)), keys(size), values(size), probs(width),
          scale(width, 0.0F), zero(width, 0.0F);
      std::vector<std::uint8_t> key_codes(size), value_codes(size);
      for (auto& v : q) v = uniform();
      for (auto& v : probs) v = uniform();
      for (auto& v : scale) v = uniform();
      for (auto& v : zero) v = static_cast<float>(rng.below(256));
      for (std::size_t i = 0; i < size; ++i) {
        keys[i] = uniform(), values[i] = uniform();
        key_codes[i] = static_cast<std::uint8_t>(rng.below(256)),
        value_codes[i] = static_cast<std::uint8_t>(rng.below(256));
      }
      const std::int64_t first = tokens / 3;
      const auto all = [&](const KvKernels& k) {
        std::vector<float> out(2 * width + 2 * q.size());
        k.score_f32(q.data(), keys.data(), d, tokens, 0.3F, out.data());
        k.score_codes(q.data(), key_codes.data(), {scale.data(), zero.data()}, d, tokens, 0.3F,
                      out.data() + width);
        k.mix_f32(probs.data(), values.data(), d, first, tokens, out.data() + 2 * width);
        k.mix_codes(probs.data(), value_codes.data(), {scale.data(), zero.data()}, d, first, tokens,
                    out.data() + 2 * width + q.size());
        return out;
      };
      const std::vector<float> want = all(kKvReference);
      for (const Isa isa : {Isa::kAvx2, Isa::kAvx512Vnni})
        if (cpu_supports(isa)) {
          EXPECT_EQ(all(kv_kernels(isa)), want) << isa_name(isa);
        }
      for (std::int64_t t = 0; t < tokens; ++t) {
        const auto at = static_cast<std::size_t>(t);
        double plain = 0, coded = 0;
        for (std::int64_t i = 0; i < d; ++i) {
          const auto k = static_cast<std::size_t>(key_offset(d, t, i));
          plain +=
              static_cast<double>(q[static_cast<std::size_t>(i)]) * static_cast<double>(keys[k]);
          coded += static_cast<double>(q[static_cast<std::size_t>(i)]) *
                   (key_codes[k] - static_cast<double>(zero[at]));
        }
        EXPECT_NEAR(static_cast<double>(want[at]), 0.3 * plain, 1e-5);
        EXPECT_NEAR(static_cast<double>(want[width + at]),
                    0.3 * static_cast<double>(scale[at]) * coded, 2e-3);
      }
      for (std::int64_t i = 0; i < d; ++i) {
        double plain = 0, coded = 0;
        for (std::int64_t t = first; t < tokens; ++t) {
          const auto at = static_cast<std::size_t>(t), v = static_cast<std::size_t>(t * d + i);
          plain += static_cast<double>(probs[at]) * static_cast<double>(values[v]);
          coded += static_cast<double>(probs[at]) * static_cast<double>(scale[at]) *
                   (value_codes[v] - static_cast<double>(zero[at]));
        }
        EXPECT_NEAR(static_cast<double>(want[2 * width + static_cast<std::size_t>(i)]), plain,
                    1e-5);
        EXPECT_NEAR(static_cast<double>(want[2 * width + q.size() + static_cast<std::size_t>(i)]),
                    coded, 2e-3);
      }
    }
}

}  // namespace
}  // namespace quell::kernels
