// Every kernel this processor has, side by side on one shape: W8A8 codes, and W6A6 codes where the kernel needs small ones.
#include <benchmark/benchmark.h>

#include "quell/base/random.h"
#include "quell/kernels/gemm_u8s8/gemm_u8s8.h"

namespace quell::kernels {
namespace {

void run(benchmark::State& state, const GemmU8S8Kernel& kernel) {
  const std::int64_t m = state.range(0), n = 768, k = 768;
  const bool small = kernel.max_product < 255 * 127;
  Random random(1);
  std::vector<std::uint8_t> x(static_cast<std::size_t>(m * k));
  std::vector<std::int8_t> w(static_cast<std::size_t>(n * k));
  for (auto& v : x) v = static_cast<std::uint8_t>(random.below(small ? 64 : 256));
  for (auto& v : w) v = static_cast<std::int8_t>(static_cast<int>(random.below(small ? 63 : 255)) - (small ? 31 : 127));
  const PackedWeights packed = pack_weights(w.data(), n, k);
  std::vector<std::int32_t> acc(static_cast<std::size_t>(m * n));
  for (auto _ : state) {
    kernel.run(x.data(), k, packed, acc.data(), n, m, 0, n);
    benchmark::DoNotOptimize(acc.data());
  }
  state.counters["GMAC/s"] = benchmark::Counter(static_cast<double>(m * n * k) * 1e-9 * static_cast<double>(state.iterations()),
                                                benchmark::Counter::kIsRate);
}

const bool registered = [] {
  for (const GemmU8S8Kernel& kernel : gemm_u8s8_kernels())
    if (cpu_supports(kernel.isa))
      for (const std::int64_t m : {1, 64, 512})
        benchmark::RegisterBenchmark(("gemm_u8s8/" + std::string(kernel.name)).c_str(), [&kernel](benchmark::State& s) {
          run(s, kernel);
        })->Arg(m);
  return true;
}();

}  // namespace
}  // namespace quell::kernels
