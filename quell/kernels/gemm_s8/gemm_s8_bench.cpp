// Every kernel this processor has: int8 outputs on the shapes of BERT-base, beside the peak of its
// instruction mix (operands in registers, one core) and the read bandwidth. "hot": the same
// operands again; "cold": weights that the caches do not hold. "%peak" compares with the probe that
// ran right before.
#include <benchmark/benchmark.h>

#include <chrono>
#include <map>

#include "quell/base/random.h"
#include "quell/kernels/gemm_s8/gemm_s8.h"
#include "quell/kernels/gemm_s8/probe.h"

namespace quell::kernels {
namespace {

void run(benchmark::State& state, const GemmS8Kernel& kernel) {
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const bool cold = state.range(3) != 0;
  const int max_w = kernel.layout == WeightLayout::kNibbles ? 7
                    : kernel.max_product >= 255 * 127       ? 127
                    : kernel.max_product >= 255 * 63        ? 63
                    : kernel.max_product >= 127 * 63        ? 63
                    : kernel.max_product >= 63 * 31         ? 31
                                                            : 7;
  const int max_x = kernel.max_product >= 255 * max_w   ? 255
                    : kernel.max_product >= 127 * max_w ? 127
                    : kernel.max_product >= 63 * max_w  ? 63
                                                        : 15;
  Random random(1);
  const std::int64_t ldx = code_stride(k), ldo = code_stride(n);
  std::vector<std::uint8_t> x(static_cast<std::size_t>(m * ldx)),
      out(static_cast<std::size_t>(m * ldo));
  std::vector<std::int8_t> w(static_cast<std::size_t>(n * k));
  for (auto& v : x)
    v = static_cast<std::uint8_t>(random.below(static_cast<std::uint64_t>(max_x) + 1));
  for (auto& v : w)
    v = static_cast<std::int8_t>(
        static_cast<int>(random.below(2 * static_cast<std::uint64_t>(max_w) + 1)) - max_w);
  std::vector<PackedWeights> packed;
  const std::int64_t copies = cold ? (std::int64_t{160} << 20) / (n * k) + 1 : 1;
  for (std::int64_t i = 0; i < copies; ++i)
    packed.push_back(pack_weights(w.data(), n, k, kernel.layout));
  const std::vector<float> scale(static_cast<std::size_t>(packed[0].padded_n()), 1e-4F),
      bias(scale.size(), 0.0F);
  Epilogue e;
  e.scale = scale.data();
  e.bias = bias.data();
  e.codes = out.data();
  e.ld_out = ldo;
  const std::int64_t rows = std::max<std::int64_t>(
      96, (std::int64_t{kernel.isa == Isa::kAmx ? 512 : 192} << 10) / ldx / 96 * 96);
  std::size_t next = 0;
  const double peak = peak_gmacs(kernel.isa, kernel.layout, kernel.max_product);
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    const PackedWeights& weights = packed[next++ % packed.size()];
    for (std::int64_t i = 0; i < m; i += rows)
      kernel.run(x.data(), ldx, weights, e, i, std::min(m, i + rows), 0,
                 weights.padded_n() / kPanel);
    benchmark::DoNotOptimize(out.data());
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double gmacs =
      static_cast<double>(m * n * k) * 1e-9 * static_cast<double>(state.iterations()) / seconds;
  state.counters["GMAC/s"] = gmacs;
  state.counters["%peak"] = 100 * gmacs / peak;
  state.counters["GB/s"] =
      static_cast<double>(packed[0].padded_n() / kPanel * packed[0].panel_bytes()) * 1e-9 *
      static_cast<double>(state.iterations()) / seconds;
}

void read_memory(benchmark::State& state) {
  const std::size_t size = std::size_t{256} << 20;
  AlignedBuffer buffer(size);
  for (auto _ : state) benchmark::DoNotOptimize(read_all(buffer.data(), size));
  state.SetBytesProcessed(static_cast<std::int64_t>(size) * state.iterations());
}
BENCHMARK(read_memory);

const bool registered = [] {
  for (const GemmS8Kernel& kernel : gemm_s8_kernels())
    if (cpu_supports(kernel.isa) && kernel.isa != Isa::kPortable)
      for (const std::int64_t cold : {0, 1})
        for (const auto& [n, k] :
             {std::pair<std::int64_t, std::int64_t>{768, 768}, {3072, 768}, {768, 3072}})
          for (const std::int64_t m : {1, 8, 512})
            benchmark::RegisterBenchmark(
                (std::string(kernel.name) + (cold ? "/cold" : "/hot")).c_str(),
                [&kernel](benchmark::State& s) { run(s, kernel); })
                ->Args({m, n, k, cold});
  return true;
}();

}  // namespace
}  // namespace quell::kernels
