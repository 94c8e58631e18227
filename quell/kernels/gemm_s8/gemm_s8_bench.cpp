// Every kernel this processor has: int8 outputs on the shapes of BERT-base, beside the peak of its
// instruction mix (operands in registers, one core) and the read bandwidth. "hot": the same
// operands again; "cold": weights that the caches do not hold. "%peak" compares with the probe that
// ran right before.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "quell/base/random.h"
#include "quell/kernels/gemm_s8/gemm_s8.h"
#include "quell/kernels/gemm_s8/probe.h"

namespace quell::kernels {
namespace {

/// Weights that no cache holds.
constexpr std::int64_t kColdBytes = std::int64_t{320} << 20;

/// Codes that the kernel is exact for.
struct Bounds {
  int x, w;
};
Bounds bounds_of(const GemmS8Kernel& kernel) {
  const int most = kernel.max_product;
  Bounds bounds{};
  if (bits_of(kernel.layout) < 8)
    bounds.w = (1 << (bits_of(kernel.layout) - 1)) - 1;
  else if (most >= 255 * 127)
    bounds.w = 127;
  else if (most >= 127 * 63)
    bounds.w = 63;
  else
    bounds.w = most >= 63 * 31 ? 31 : 7;
  for (const int x : {15, 63, 127, 255})
    if (most >= x * bounds.w) bounds.x = x;
  return bounds;
}

/// Without groups.
PackedWeights copy_of(const PackedWeights& w) {
  PackedWeights copy;
  copy.n = w.n;
  copy.k = w.k;
  copy.layout = w.layout;
  copy.max_abs = w.max_abs;
  copy.row_sum = w.row_sum;
  copy.data = AlignedBuffer(w.data.size(), Fill::kNone);
  std::memcpy(copy.data.data(), w.data.data(), w.data.size());
  return copy;
}

/// One product, again and again: the same weights, or each time others of `weight_bytes` in all.
class Product {
 public:
  Product(const GemmS8Kernel& kernel, Bounds bounds, std::int64_t m, std::int64_t n, std::int64_t k,
          std::int64_t weight_bytes)
      : kernel_(kernel),
        m_(m),
        ldx_(code_stride(k)),
        x_(static_cast<std::size_t>(m * ldx_)),
        out_(static_cast<std::size_t>(m * code_stride(n))) {
    Random random(1);
    std::vector<std::int8_t> w(static_cast<std::size_t>(n * k));
    for (auto& v : x_)
      v = static_cast<std::uint8_t>(random.below(static_cast<std::uint64_t>(bounds.x) + 1));
    for (auto& v : w)
      v = static_cast<std::int8_t>(
          static_cast<int>(random.below(2 * static_cast<std::uint64_t>(bounds.w) + 1)) - bounds.w);
    packed_.push_back(pack_weights(w.data(), n, k, kernel.layout));
    while (static_cast<std::int64_t>(packed_.size()) * bytes() < weight_bytes)
      packed_.push_back(copy_of(packed_[0]));

    scale_.assign(static_cast<std::size_t>(packed_[0].padded_n()), 1e-4F);
    bias_.assign(scale_.size(), 0.0F);
    epilogue_.scale = scale_.data();
    epilogue_.bias = bias_.data();
    epilogue_.codes = out_.data();
    epilogue_.ld_out = code_stride(n);
    const std::int64_t cache = std::int64_t{kernel.isa == Isa::kAmx ? 512 : 192} << 10;
    rows_ = std::max<std::int64_t>(96, cache / ldx_ / 96 * 96);
  }
  /// Of the weights.
  std::int64_t bytes() const { return packed_[0].padded_n() / kPanel * packed_[0].panel_bytes(); }
  void run() {
    const PackedWeights& w = packed_[next_++ % packed_.size()];
    for (std::int64_t i = 0; i < m_; i += rows_)
      kernel_.run(x_.data(), ldx_, w, epilogue_, i, std::min(m_, i + rows_), 0,
                  w.padded_n() / kPanel);
    benchmark::DoNotOptimize(out_.data());
  }

 private:
  const GemmS8Kernel& kernel_;
  std::int64_t m_, ldx_, rows_ = 0;
  std::vector<std::uint8_t> x_, out_;
  std::vector<PackedWeights> packed_;
  std::vector<float> scale_, bias_;
  Epilogue epilogue_;
  std::size_t next_ = 0;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void run(benchmark::State& state, const GemmS8Kernel& kernel) {
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const bool cold = state.range(3) != 0;
  Product product(kernel, bounds_of(kernel), m, n, k, cold ? kColdBytes : 0);
  const double peak = peak_gmacs(kernel.isa, kernel.layout, kernel.max_product);
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) product.run();
  const double calls_a_second = static_cast<double>(state.iterations()) / seconds_since(start);
  const double gmacs = static_cast<double>(m * n * k) * 1e-9 * calls_a_second;
  state.counters["GMAC/s"] = gmacs;
  state.counters["%peak"] = 100 * gmacs / peak;
  state.counters["GB/s"] = static_cast<double>(product.bytes()) * 1e-9 * calls_a_second;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Weights of 2 bits and of 8 in turn, on what this processor has for them: how many times faster
/// the former are, in the median of all pairs.
void run_beside_w8a8(benchmark::State& state) {
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const std::int64_t weight_bytes = state.range(3) != 0 ? kColdBytes : 0;
  constexpr Bounds kTwoBits{255, 1}, kEightBits{255, 127};
  const Isa isa = best_isa();
  Product packed(choose_gemm_s8(isa, kTwoBits.x, 2, 2), kTwoBits, m, n, k, weight_bytes);
  Product whole(choose_gemm_s8(isa, kEightBits.x, kEightBits.w), kEightBits, m, n, k, weight_bytes);
  std::vector<double> times;
  for (auto _ : state) {
    auto start = std::chrono::steady_clock::now();
    whole.run();
    const double whole_seconds = seconds_since(start);
    start = std::chrono::steady_clock::now();
    packed.run();
    times.push_back(whole_seconds / seconds_since(start));
  }
  state.counters["times_faster"] = median(times);
}
BENCHMARK(run_beside_w8a8)
    ->Name("w2a8_beside_w8a8")
    ->ArgNames({"m", "n", "k", "cold"})
    ->ArgsProduct({{1, 4, 16, 128, 512}, {768, 3072}, {768, 3072}, {0, 1}});

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
