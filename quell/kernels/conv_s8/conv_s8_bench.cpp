// Every kernel this processor has on layers of MobileNetV2, EfficientNet-Lite0 and ResNet, one
// core, codes in and out, beside the peak of its instruction mix (operands in registers). Behind a
// dense or 1x1 layer, the gemm_s8 kernel of the same ISA on K padded to 64, the gathering of its
// rows not counted. Names say output pixels, channels in, out, filter and stride.
#include <benchmark/benchmark.h>

#include <chrono>

#include "quell/base/random.h"
#include "quell/kernels/conv_s8/conv_s8.h"
#include "quell/kernels/gemm_s8/probe.h"

namespace quell::kernels {
namespace {

struct Layer {
  std::int64_t side, channels, n, filter, stride;
  bool residual = false;

  std::int64_t pixels() const { return side * side; }
  std::int64_t taps() const { return filter * filter; }
  std::string name() const {
    return std::to_string(side) + "x" + std::to_string(side) + "/" + std::to_string(channels) +
           "to" + std::to_string(n) + "/" + std::to_string(filter) + "x" + std::to_string(filter) +
           "s" + std::to_string(stride) + (residual ? "/residual" : "");
  }
};

constexpr Layer kPointwise[] = {
    {112, 32, 16, 1, 1},  {112, 16, 96, 1, 1},       {56, 96, 24, 1, 1},
    {56, 24, 144, 1, 1},  {56, 144, 24, 1, 1, true}, {28, 32, 192, 1, 1},
    {28, 240, 40, 1, 1},  {14, 384, 64, 1, 1, true}, {14, 80, 480, 1, 1},
    {14, 672, 112, 1, 1}, {7, 960, 160, 1, 1, true}, {7, 320, 1280, 1, 1},
};
constexpr Layer kDense[] = {
    {112, 3, 32, 3, 2},   {56, 64, 64, 3, 1},  {28, 128, 128, 3, 1, true},
    {14, 256, 256, 3, 1}, {7, 512, 512, 3, 1},
};
constexpr Layer kDepthwise[] = {
    {112, 32, 32, 3, 1},  {56, 96, 96, 3, 2},   {56, 144, 144, 3, 1},
    {28, 144, 144, 5, 2}, {28, 240, 240, 5, 1}, {14, 384, 384, 3, 1},
    {14, 672, 672, 5, 1}, {7, 960, 960, 3, 1},  {7, 1152, 1152, 5, 1},
};

/// Codes, weights and what an epilogue needs.
struct Operands {
  std::vector<std::uint8_t> x, out, residual;
  std::vector<std::int8_t> w;
  std::vector<float> scale, bias;
  std::vector<std::int32_t> offset;
  Epilogue e;

  Operands(const Layer& layer, std::int64_t input_bytes, std::int64_t k, int max_w) {
    Random random(1);
    x.resize(static_cast<std::size_t>(input_bytes));
    for (auto& v : x) v = static_cast<std::uint8_t>(random.below(256));
    w.resize(static_cast<std::size_t>(layer.n * k));
    for (auto& v : w)
      v = static_cast<std::int8_t>(
          static_cast<int>(random.below(2 * static_cast<std::uint64_t>(max_w) + 1)) - max_w);
    const auto padded = static_cast<std::size_t>(round_up(layer.n, kPanel));
    scale.assign(padded, 1e-4F);
    bias.assign(padded, 0.0F);
    offset.assign(padded, 5);
    out.resize(static_cast<std::size_t>(layer.pixels() * layer.n));
    residual = out;

    e.scale = scale.data();
    e.bias = bias.data();
    e.column_offset = offset.data();
    e.codes = out.data();
    e.ld_out = layer.n;
    // ReLU follows where the channels become more, as in these networks.
    e.code_args = {10.0F, layer.n < layer.channels ? 128 : 0, 0, 255};
    if (layer.residual) {
      e.residual.codes = residual.data();
      e.residual.ld = layer.n;
      e.residual.zero = 120;
      e.residual.scale = 0.1F;
    }
  }
};

template <typename Body>
void measure(benchmark::State& state, double macs, double peak, Body body) {
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    body();
    benchmark::ClobberMemory();
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double gmacs = macs * 1e-9 * static_cast<double>(state.iterations()) / seconds;
  state.counters["GMAC/s"] = gmacs;
  if (peak > 0) state.counters["%peak"] = 100 * gmacs / peak;
}

int max_weight(int max_product) { return max_product >= 255 * 127 ? 127 : 64; }

/// Pixels whose operands the second-level cache holds, as a caller would share them out.
std::int64_t pixel_block(const Layer& layer, std::int64_t row_bytes, std::int64_t unit) {
  const std::int64_t fitting = (std::int64_t{256} << 10) / row_bytes / unit * unit;
  return std::min(layer.pixels(), std::max(unit, fitting));
}

double peak_of(const ConvS8Kernel& kernel) {
  const bool widened = kernel.isa == Isa::kAvx2 && kernel.max_product >= 255 * 128;
  return peak_gmacs(kernel.isa, widened ? WeightLayout::kPairs : WeightLayout::kQuads,
                    kernel.max_product);
}

void run_pointwise(benchmark::State& state, const ConvS8Kernel& kernel, const Layer& layer) {
  const std::int64_t ldx = round_up(layer.channels, 4);
  Operands o(layer, layer.pixels() * ldx, layer.channels, max_weight(kernel.max_product));
  const PackedConv w = pack_conv(o.w.data(), layer.n, 1, layer.channels);
  const std::int64_t block = pixel_block(layer, ldx, kernel.row_unit);
  const double macs = static_cast<double>(layer.pixels() * layer.n * layer.channels);
  measure(state, macs, peak_of(kernel), [&] {
    for (std::int64_t i = 0; i < layer.pixels(); i += block)
      kernel.pointwise(o.x.data() + i * ldx, ldx, std::min(block, layer.pixels() - i), w, o.e, i, 0,
                       w.panels());
  });
}

/// The row of codes that tap (t, u) of output pixel (y, x) sees in an image with a border.
std::int64_t input_row(const Layer& layer, std::int64_t y, std::int64_t x, std::int64_t t,
                       std::int64_t u) {
  const std::int64_t width = layer.side * layer.stride + layer.filter;
  return (y * layer.stride + t) * width + x * layer.stride + u;
}

std::int64_t input_bytes(const Layer& layer, std::int64_t ldx) {
  const std::int64_t width = layer.side * layer.stride + layer.filter;
  return width * width * ldx + kDepthwiseUnit;
}

void run_dense(benchmark::State& state, const ConvS8Kernel& kernel, const Layer& layer) {
  const std::int64_t ldx = round_up(layer.channels, 4), k = layer.taps() * layer.channels;
  Operands o(layer, input_bytes(layer, ldx), k, max_weight(kernel.max_product));
  const PackedConv w = pack_conv(o.w.data(), layer.n, layer.taps(), layer.channels);
  const std::int64_t block = pixel_block(layer, k, kernel.row_unit);

  // Pointers of a block, tap by tap.
  std::vector<std::vector<const std::uint8_t*>> blocks;
  for (std::int64_t i = 0; i < layer.pixels(); i += block) {
    const std::int64_t count = std::min(block, layer.pixels() - i);
    std::vector<const std::uint8_t*>& rows = blocks.emplace_back();
    for (std::int64_t tap = 0; tap < layer.taps(); ++tap)
      for (std::int64_t p = i; p < i + count; ++p)
        rows.push_back(o.x.data() + ldx * input_row(layer, p / layer.side, p % layer.side,
                                                    tap / layer.filter, tap % layer.filter));
  }
  const double macs = static_cast<double>(layer.pixels() * layer.n * k);
  measure(state, macs, peak_of(kernel), [&] {
    std::int64_t i = 0;
    for (const auto& rows : blocks) {
      const std::int64_t count = static_cast<std::int64_t>(rows.size()) / layer.taps();
      kernel.dense(rows.data(), count, w, o.e, i, 0, w.panels());
      i += count;
    }
  });
}

void run_depthwise(benchmark::State& state, const ConvS8Kernel& kernel, const Layer& layer) {
  const std::int64_t ldx = layer.channels;
  Operands o(layer, input_bytes(layer, ldx), layer.taps(), max_weight(kernel.max_product));
  const PackedDepthwise w =
      pack_depthwise(o.w.data(), layer.n, layer.filter, layer.filter, kernel.vector_bytes);
  const std::int64_t columns = (layer.side - 1) * layer.stride + layer.filter;
  std::vector<const std::uint8_t*> rows;
  for (std::int64_t y = 0; y < layer.side; ++y)
    for (std::int64_t c = 0; c < columns; ++c)
      for (std::int64_t t = 0; t < layer.filter; ++t)
        rows.push_back(o.x.data() + ldx * input_row(layer, y, 0, t, c));

  const double macs = static_cast<double>(layer.pixels() * layer.n * layer.taps());
  const DepthwiseRows all{rows.data(), layer.stride, 1,
                          layer.side,  layer.side,   columns * layer.filter};
  measure(state, macs, peak_of(kernel), [&] { kernel.depthwise(all, w, o.e, 0, 0, layer.n); });
}

void run_gemm(benchmark::State& state, const GemmS8Kernel& kernel, const Layer& layer) {
  const std::int64_t k = layer.taps() * layer.channels, ldx = code_stride(k);
  Operands o(layer, layer.pixels() * ldx, k, max_weight(kernel.max_product));
  const PackedWeights w = pack_weights(o.w.data(), layer.n, k, kernel.layout);
  const std::int64_t block = pixel_block(layer, ldx, kernel.row_unit);
  const double macs = static_cast<double>(layer.pixels() * layer.n * k);
  measure(state, macs, peak_gmacs(kernel.isa, kernel.layout, kernel.max_product), [&] {
    for (std::int64_t i = 0; i < layer.pixels(); i += block)
      kernel.run(o.x.data(), ldx, w, o.e, i, std::min(layer.pixels(), i + block), 0,
                 w.padded_n() / kPanel);
  });
}

template <typename Run>
void add(const std::string& name, Run run) {
  benchmark::RegisterBenchmark(name.c_str(), run)->MinTime(0.05);
}

const bool registered = [] {
  for (const ConvS8Kernel& kernel : conv_s8_kernels()) {
    if (!cpu_supports(kernel.isa) || kernel.isa == Isa::kPortable) continue;
    const GemmS8Kernel& gemm = choose_gemm_s8(kernel.isa, 255, max_weight(kernel.max_product));
    const std::string conv_name = std::string("conv_") + std::string(kernel.name) + "/";
    const std::string gemm_name = std::string("gemm_") + std::string(gemm.name) + "/";
    for (const Layer& layer : kPointwise) {
      add(conv_name + "1x1/" + layer.name(), [&](auto& s) { run_pointwise(s, kernel, layer); });
      add(gemm_name + "1x1/" + layer.name(), [&](auto& s) { run_gemm(s, gemm, layer); });
    }
    for (const Layer& layer : kDense) {
      add(conv_name + "dense/" + layer.name(), [&](auto& s) { run_dense(s, kernel, layer); });
      add(gemm_name + "dense/" + layer.name(), [&](auto& s) { run_gemm(s, gemm, layer); });
    }
    for (const Layer& layer : kDepthwise)
      add(conv_name + "depthwise/" + layer.name(),
          [&](auto& s) { run_depthwise(s, kernel, layer); });
  }
  return true;
}();

}  // namespace
}  // namespace quell::kernels
