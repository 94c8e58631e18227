// Every kernel text equals plain loops byte for byte, natively where the processor has the
// instructions and emulated everywhere, on odd shapes and with every epilogue.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "quell/base/random.h"
#include "quell/kernels/conv_s8/body_dense.h"
#include "quell/kernels/conv_s8/body_depthwise.h"
#include "quell/kernels/conv_s8/emulated.h"
#include "quell/kernels/conv_s8/kernels.h"

namespace quell::kernels {
namespace {

constexpr int kAny = 255 * 128;

template <template <int> class Vectors>
constexpr ConvS8Kernel emulated(std::string_view name, int max_product) {
  return {name,
          Isa::kPortable,
          max_product,
          1,
          Vectors<16>::kWidest,
          dense_conv<Vectors>,
          pointwise_conv<Vectors>,
          depthwise_conv<Vectors>};
}

std::vector<ConvS8Kernel> all_kernels() {
  std::vector<ConvS8Kernel> kernels = {
      emulated<EmulatedWiden>("emulated_widen", kAny),
      emulated<EmulatedAvx512Vnni>("emulated_avx512_vnni", kAny),
  };
  for (const ConvS8Kernel& kernel : conv_s8_kernels())
    if (cpu_supports(kernel.isa)) kernels.push_back(kernel);
  return kernels;
}

class ConvS8Kernels : public testing::TestWithParam<ConvS8Kernel> {};
INSTANTIATE_TEST_SUITE_P(All, ConvS8Kernels, testing::ValuesIn(all_kernels()),
                         [](const auto& info) { return std::string(info.param.name); });

/// Codes reach their bounds often, so that a sum that could saturate does.
std::vector<std::uint8_t> random_codes(Random& random, std::int64_t count, int bound = 255) {
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(count));
  for (auto& code : codes) {
    const auto any = random.below(static_cast<std::uint64_t>(bound) + 1);
    code = static_cast<std::uint8_t>(random.below(3) == 0 ? static_cast<unsigned>(bound) : any);
  }
  return codes;
}

std::vector<std::int8_t> random_weights(Random& random, std::int64_t count, int bound) {
  std::vector<std::int8_t> weights(static_cast<std::size_t>(count));
  for (auto& w : weights) {
    int code = static_cast<int>(random.below(2 * static_cast<std::uint64_t>(bound) + 1)) - bound;
    if (random.below(3) == 0) code = random.below(2) == 0 ? -bound : bound;
    w = static_cast<std::int8_t>(std::min(code, 127));
  }
  return weights;
}

int weight_bound(const ConvS8Kernel& kernel) { return kernel.max_product >= kAny ? 128 : 64; }

/// What follows the sums. `general`: something that the short way does not know.
struct Finish {
  bool codes = true;
  enum Residual { kNone, kCodes, kF32 } residual = kNone;
  Activation activation = Activation::kNone;
  bool affine = false;     ///< of the residual, by column
  bool by_column = false;  ///< codes with steps by column
  bool no_offset = false;
  bool from_zero = false;  ///< codes as after ReLU
};
constexpr Finish kStraight[] = {{},
                                {.no_offset = true},
                                {.from_zero = true},
                                {.residual = Finish::kCodes},
                                {.residual = Finish::kF32}};
constexpr Finish kGeneral[] = {{.codes = false},
                               {.codes = false, .residual = Finish::kF32},
                               {.codes = false, .activation = Activation::kRelu6},
                               {.residual = Finish::kCodes, .activation = Activation::kRelu},
                               {.residual = Finish::kCodes, .affine = true},
                               {.by_column = true}};

/// Operands of an epilogue over `rows` x `n` outputs, and the outputs with room around them.
struct Outputs {
  std::int64_t rows, n, ld;
  std::vector<float> scale, bias, residual_f32, column_scale, column_shift, f32;
  std::vector<std::int32_t> offset;
  std::vector<std::uint8_t> residual_codes, codes;
  Epilogue e;

  Outputs(std::int64_t rows_, std::int64_t n_, std::int64_t k, const Finish& finish)
      : rows(rows_), n(n_), ld(n_ + 3) {
    Random random(static_cast<std::uint64_t>(rows * 131 + n));
    const auto padded = static_cast<std::size_t>(round_up(n, kPanel));
    const auto size = static_cast<std::size_t>(rows * ld);
    const auto values = [&](std::size_t count, double from, double to) {
      std::vector<float> v(count);
      for (float& x : v) x = static_cast<float>(from + (to - from) * random.uniform());
      return v;
    };
    // Sums of k products of random codes spread over some of the codes' range, and beyond it.
    const double step = 4.0 / (8000.0 * std::sqrt(static_cast<double>(k)));
    scale = values(padded, step / 4, step);
    bias = values(padded, -1, 1);
    residual_f32 = values(size, -1, 1);
    column_scale = values(static_cast<std::size_t>(n), 0.5, 2);
    column_shift = values(static_cast<std::size_t>(n), -1, 1);
    residual_codes = random_codes(random, rows * ld);
    for (std::size_t j = 0; j < padded; ++j)
      offset.push_back(static_cast<std::int32_t>(random.below(4000)) - 2000);
    f32.assign(size, -7.0F);
    codes.assign(size, 77);

    e.column_offset = finish.no_offset ? nullptr : offset.data();
    e.scale = scale.data();
    e.bias = bias.data();
    e.activation = finish.activation;
    if (finish.residual == Finish::kCodes) e.residual.codes = residual_codes.data();
    if (finish.residual == Finish::kF32) e.residual.f32 = residual_f32.data();
    e.residual.ld = ld;
    e.residual.zero = 100;
    e.residual.scale = 0.01F;
    if (finish.affine) {
      e.residual.column_scale = column_scale.data();
      e.residual.column_shift = column_shift.data();
    }
    if (finish.by_column) {
      e.code_scale = column_scale.data();
      e.code_shift = column_shift.data();
    }
    if (finish.codes)
      e.codes = codes.data();
    else
      e.f32 = f32.data();
    e.ld_out = ld;
    e.code_args = {60.0F, 90, 20, 240};
    if (finish.from_zero) e.code_args = {100.0F, 0, 0, 250};
  }

  /// The epilogue of one sum in plain C++.
  void finish(std::int64_t row, std::int64_t column, std::int64_t sum) {
    const auto j = static_cast<std::size_t>(column);
    const auto at = static_cast<std::size_t>(row * ld + column);
    if (e.column_offset != nullptr) sum += offset[j];
    float v = scale[j] * static_cast<float>(static_cast<std::int32_t>(sum)) + bias[j];
    if (e.activation == Activation::kRelu) v = std::max(v, 0.0F);
    if (e.activation == Activation::kRelu6) v = std::clamp(v, 0.0F, 6.0F);

    if (e.residual.present()) {
      const float code = static_cast<float>(residual_codes[at]);
      float r = (code - e.residual.zero) * e.residual.scale;
      if (e.residual.f32 != nullptr) r = residual_f32[at];
      if (e.residual.column_scale != nullptr) r = r * column_scale[j] + column_shift[j];
      v = v + r;
    }
    if (e.codes == nullptr) {
      f32[at] = v;
      return;
    }
    if (e.code_shift != nullptr) v = (v - column_shift[j]) / column_scale[j];
    const CodeArgs& a = e.code_args;
    const double code = std::nearbyint(static_cast<double>(v * a.inv_scale)) + a.zero;
    codes[at] = static_cast<std::uint8_t>(
        std::clamp(code, static_cast<double>(a.low), static_cast<double>(a.high)));
  }
};

void expect_equal(const Outputs& got, const Outputs& want, const std::string& what) {
  for (std::int64_t i = 0; i < want.rows; ++i)
    for (std::int64_t j = 0; j < want.ld; ++j) {
      const auto at = static_cast<std::size_t>(i * want.ld + j);
      ASSERT_EQ(int{got.codes[at]}, int{want.codes[at]}) << what << " at " << i << "," << j;
      ASSERT_EQ(got.f32[at], want.f32[at]) << what << " at " << i << "," << j;
    }
}

struct DenseShape {
  std::int64_t pixels, n, taps, channels;
};

/// Rows of codes in a heap block each, so that a sanitizer sees a read beyond what is allowed, and
/// for some of the taps a shared row of padding.
struct DenseInput {
  std::vector<std::vector<std::uint8_t>> storage;
  std::vector<const std::uint8_t*> rows;

  DenseInput(const DenseShape& shape, int max_code, Random& random) {
    const std::int64_t width = round_up(shape.channels, 4);
    storage.push_back(std::vector<std::uint8_t>(static_cast<std::size_t>(width), 3));
    for (std::int64_t i = 0; i < shape.taps * shape.pixels; ++i)
      storage.push_back(random_codes(random, width, max_code));
    for (std::size_t i = 1; i < storage.size(); ++i)
      rows.push_back(storage[random.below(5) == 0 ? 0 : i].data());
  }
};

void check_dense(const ConvS8Kernel& kernel, const DenseShape& shape, const Finish& finish) {
  const auto [pixels, n, taps, channels] = shape;
  const std::int64_t k = taps * channels;
  Random random(static_cast<std::uint64_t>(pixels + 100 * n + 7 * k));
  const DenseInput in(shape, 255, random);
  const std::vector<std::int8_t> w = random_weights(random, n * k, weight_bound(kernel));
  const PackedConv packed = pack_conv(w.data(), n, taps, channels);

  // Rows around those of the call, and panels in two calls: neither may touch the other's.
  constexpr std::int64_t kRow0 = 2;
  Outputs got(pixels + 3, n, k, finish), want(pixels + 3, n, k, finish);
  const std::int64_t middle = packed.panels() / 2;
  kernel.dense(in.rows.data(), pixels, packed, got.e, kRow0, 0, middle);
  kernel.dense(in.rows.data(), pixels, packed, got.e, kRow0, middle, packed.panels());

  for (std::int64_t i = 0; i < pixels; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      std::int64_t sum = 0;
      for (std::int64_t tap = 0; tap < taps; ++tap)
        for (std::int64_t c = 0; c < channels; ++c)
          sum += in.rows[static_cast<std::size_t>(tap * pixels + i)][c] *
                 w[static_cast<std::size_t>((j * taps + tap) * channels + c)];
      want.finish(kRow0 + i, j, sum);
    }
  expect_equal(got, want,
               std::to_string(pixels) + " pixels, " + std::to_string(taps) + " x " +
                   std::to_string(channels) + " to " + std::to_string(n));
}

void check_pointwise(const ConvS8Kernel& kernel, const DenseShape& shape, const Finish& finish) {
  const auto [pixels, n, taps, channels] = shape;
  Random random(static_cast<std::uint64_t>(pixels + 100 * n + 7 * channels));
  const std::int64_t ldx = round_up(channels, 4) + 4;
  const std::int64_t used = (pixels - 1) * ldx + round_up(channels, 4);
  const std::vector<std::uint8_t> x = random_codes(random, used);
  const std::vector<std::int8_t> w = random_weights(random, n * channels, weight_bound(kernel));
  const PackedConv packed = pack_conv(w.data(), n, 1, channels);

  constexpr std::int64_t kRow0 = 1;
  Outputs got(pixels + 2, n, channels, finish), want(pixels + 2, n, channels, finish);
  kernel.pointwise(x.data(), ldx, pixels, packed, got.e, kRow0, 0, packed.panels());

  for (std::int64_t i = 0; i < pixels; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      std::int64_t sum = 0;
      for (std::int64_t c = 0; c < channels; ++c)
        sum += x[static_cast<std::size_t>(i * ldx + c)] *
               w[static_cast<std::size_t>(j * channels + c)];
      want.finish(kRow0 + i, j, sum);
    }
  expect_equal(
      got, want,
      std::to_string(pixels) + " pixels, " + std::to_string(channels) + " to " + std::to_string(n));
}

/// All numbers of vectors in a strip, whole ones and parts; all numbers of pixels that are left.
constexpr DenseShape kShapes[] = {
    {1, 1, 1, 1},     {2, 3, 9, 3},   {3, 8, 2, 5},    {4, 16, 9, 4},   {5, 17, 1, 7},
    {6, 24, 3, 8},    {7, 31, 9, 1},  {8, 32, 1, 64},  {9, 40, 4, 9},   {10, 47, 1, 33},
    {11, 56, 2, 12},  {12, 63, 9, 2}, {13, 64, 1, 16}, {14, 65, 3, 6},  {15, 80, 1, 24},
    {17, 96, 1, 10},  {19, 97, 2, 3}, {23, 112, 1, 5}, {25, 130, 1, 4}, {26, 144, 1, 11},
    {49, 20, 25, 13},
};

TEST_P(ConvS8Kernels, Dense) {
  for (const DenseShape& shape : kShapes)
    for (const Finish& finish : kStraight) check_dense(GetParam(), shape, finish);
}

TEST_P(ConvS8Kernels, DenseGeneralEpilogue) {
  for (const DenseShape& shape : {kShapes[5], kShapes[13], kShapes[16]})
    for (const Finish& finish : kGeneral) check_dense(GetParam(), shape, finish);
}

TEST_P(ConvS8Kernels, Pointwise) {
  for (const DenseShape& shape : kShapes)
    for (const Finish& finish : kStraight) check_pointwise(GetParam(), shape, finish);
  for (const Finish& finish : kGeneral) check_pointwise(GetParam(), kShapes[9], finish);
}

struct DepthwiseShape {
  std::int64_t channels, height, width, stride, dilation, pixels;
};

void check_depthwise(const ConvS8Kernel& kernel, const DepthwiseShape& shape,
                     const Finish& finish) {
  const auto [channels, height, width, stride, dilation, pixels] = shape;
  Random random(static_cast<std::uint64_t>(channels * 31 + height * 7 + pixels));
  const std::int64_t output_rows = 1 + pixels % 2;
  const std::int64_t columns = (pixels - 1) * stride + (width - 1) * dilation + 1;
  const std::int64_t pointers = columns * height;
  const DenseInput in({pointers, 0, output_rows, round_up(channels, 16)}, 255, random);
  const std::int64_t taps = height * width;
  const std::vector<std::int8_t> w = random_weights(random, channels * taps, weight_bound(kernel));
  const PackedDepthwise packed =
      pack_depthwise(w.data(), channels, height, width, kernel.vector_bytes);

  constexpr std::int64_t kRow0 = 1;
  const std::int64_t outputs = output_rows * pixels;
  Outputs got(outputs + 2, channels, taps, finish), want(outputs + 2, channels, taps, finish);
  const DepthwiseRows rows{in.rows.data(), stride, dilation, pixels, output_rows, pointers};
  const std::int64_t middle = channels / kDepthwiseUnit * kDepthwiseUnit;
  kernel.depthwise(rows, packed, got.e, kRow0, 0, middle);
  kernel.depthwise(rows, packed, got.e, kRow0, middle, channels);

  for (std::int64_t i = 0; i < outputs; ++i)
    for (std::int64_t c = 0; c < channels; ++c) {
      std::int64_t sum = 0;
      for (std::int64_t t = 0; t < height; ++t)
        for (std::int64_t u = 0; u < width; ++u) {
          const std::int64_t column = i % pixels * stride + u * dilation;
          const std::int64_t pointer = i / pixels * pointers + column * height + t;
          sum += in.rows[static_cast<std::size_t>(pointer)][c] *
                 w[static_cast<std::size_t>((c * height + t) * width + u)];
        }
      want.finish(kRow0 + i, c, sum);
    }
  expect_equal(got, want,
               std::to_string(channels) + " channels, " + std::to_string(height) + "x" +
                   std::to_string(width) + " stride " + std::to_string(stride) + " dilation " +
                   std::to_string(dilation) + ", " + std::to_string(outputs) + " pixels");
}

TEST_P(ConvS8Kernels, Depthwise) {
  for (const std::int64_t channels : {1, 8, 16, 17, 24, 32, 40, 48, 64, 80, 96, 100, 112, 144})
    for (const std::int64_t size : {3, 5})
      for (const std::int64_t stride : {1, 2}) {
        const std::int64_t pixels = 1 + (channels * 5 + size + stride) % 37;
        check_depthwise(GetParam(), {channels, size, size, stride, 1, pixels}, {});
        check_depthwise(GetParam(), {channels, size, size, stride, 1, pixels}, {.from_zero = true});
      }
}

TEST_P(ConvS8Kernels, DepthwiseAnyFilter) {
  for (const DepthwiseShape& shape : std::initializer_list<DepthwiseShape>{{20, 3, 3, 1, 2, 6},
                                                                           {72, 5, 5, 2, 3, 5},
                                                                           {33, 3, 3, 3, 1, 4},
                                                                           {64, 1, 1, 1, 1, 9},
                                                                           {16, 7, 7, 1, 1, 5},
                                                                           {90, 1, 9, 1, 1, 5},
                                                                           {40, 9, 1, 2, 1, 5},
                                                                           {5, 4, 2, 1, 1, 5},
                                                                           {70, 8, 3, 1, 2, 3}})
    check_depthwise(GetParam(), shape, {});
}

TEST_P(ConvS8Kernels, DepthwiseGeneralEpilogue) {
  for (const std::int64_t channels : {24, 112})
    for (const std::int64_t size : {3, 5}) {
      for (const Finish& finish : kStraight)
        check_depthwise(GetParam(), {channels, size, size, 1, 1, 6}, finish);
      for (const Finish& finish : kGeneral)
        check_depthwise(GetParam(), {channels, size, size, 2, 1, 6}, finish);
    }
}

/// A plain epilogue whose codes are the sums.
struct Identity {
  std::vector<float> ones, zeros;
  std::vector<std::uint8_t> codes;
  Epilogue e;

  Identity(std::int64_t rows, std::int64_t n)
      : ones(static_cast<std::size_t>(round_up(n, kPanel)), 1.0F),
        zeros(ones.size(), 0.0F),
        codes(static_cast<std::size_t>(rows * n), 0) {
    e.scale = ones.data();
    e.bias = zeros.data();
    e.codes = codes.data();
    e.ld_out = n;
  }
};

/// One weight of 1 at a time: the output is the code it sees.
TEST_P(ConvS8Kernels, EveryTapAndChannelOfDenseCounts) {
  const DenseShape shape{7, 18, 9, 6};
  Random random(1);
  const DenseInput in(shape, 255, random);
  for (std::int64_t tap = 0; tap < shape.taps; ++tap)
    for (std::int64_t c = 0; c < shape.channels; ++c) {
      const std::int64_t output = (tap * shape.channels + c) % shape.n;
      std::vector<std::int8_t> w(static_cast<std::size_t>(shape.n * shape.taps * shape.channels));
      w[static_cast<std::size_t>((output * shape.taps + tap) * shape.channels + c)] = 1;
      const PackedConv packed = pack_conv(w.data(), shape.n, shape.taps, shape.channels);
      Identity out(shape.pixels, shape.n);
      GetParam().dense(in.rows.data(), shape.pixels, packed, out.e, 0, 0, packed.panels());
      for (std::int64_t i = 0; i < shape.pixels; ++i)
        for (std::int64_t j = 0; j < shape.n; ++j) {
          const int seen = in.rows[static_cast<std::size_t>(tap * shape.pixels + i)][c];
          ASSERT_EQ(int{out.codes[static_cast<std::size_t>(i * shape.n + j)]},
                    j == output ? seen : 0)
              << "tap " << tap << " channel " << c << " pixel " << i << " output " << j;
        }
    }
}

TEST_P(ConvS8Kernels, EveryTapOfDepthwiseCounts) {
  constexpr std::int64_t kChannels = 70, kPixels = 9;
  for (const std::int64_t size : {3, 5})
    for (const std::int64_t stride : {1, 2}) {
      Random random(static_cast<std::uint64_t>(size));
      const std::int64_t columns = (kPixels - 1) * stride + size;
      const DenseInput in({columns, 0, size, round_up(kChannels, 16)}, 255, random);
      for (std::int64_t tap = 0; tap < size * size; ++tap) {
        std::vector<std::int8_t> w(static_cast<std::size_t>(kChannels * size * size));
        for (std::int64_t c = 0; c < kChannels; ++c)
          w[static_cast<std::size_t>(c * size * size + tap)] = 1;
        const PackedDepthwise packed =
            pack_depthwise(w.data(), kChannels, size, size, GetParam().vector_bytes);
        Identity out(kPixels, kChannels);
        GetParam().depthwise({in.rows.data(), stride, 1, kPixels}, packed, out.e, 0, 0, kChannels);
        for (std::int64_t x = 0; x < kPixels; ++x)
          for (std::int64_t c = 0; c < kChannels; ++c) {
            const std::int64_t column = x * stride + tap % size;
            const int seen = in.rows[static_cast<std::size_t>(column * size + tap / size)][c];
            ASSERT_EQ(int{out.codes[static_cast<std::size_t>(x * kChannels + c)]}, seen)
                << size << "x" << size << " tap " << tap << " pixel " << x << " channel " << c;
          }
      }
    }
}

TEST_P(ConvS8Kernels, ExtremeCodesDoNotOverflow) {
  constexpr std::int64_t kChannels = 512, kTaps = 9, kPixels = 3, kOutputs = 20;
  const int bound = weight_bound(GetParam());
  const std::vector<std::uint8_t> row(kChannels, 255);
  const std::vector<const std::uint8_t*> rows(kTaps * kPixels, row.data());
  for (const int weight : {-bound, std::min(bound, 127)}) {
    const std::vector<std::int8_t> w(kOutputs * kTaps * kChannels,
                                     static_cast<std::int8_t>(weight));
    const PackedConv packed = pack_conv(w.data(), kOutputs, kTaps, kChannels);
    EXPECT_EQ(packed.max_abs, std::abs(weight));
    EXPECT_EQ(packed.row_sum[kOutputs - 1], weight * kTaps * kChannels);

    Outputs got(kPixels, kOutputs, 1, {.codes = false}),
        want(kPixels, kOutputs, 1, {.codes = false});
    GetParam().dense(rows.data(), kPixels, packed, got.e, 0, 0, packed.panels());
    for (std::int64_t i = 0; i < kPixels; ++i)
      for (std::int64_t j = 0; j < kOutputs; ++j)
        want.finish(i, j, std::int64_t{255} * weight * kTaps * kChannels);
    expect_equal(got, want, "weights of " + std::to_string(weight));
  }
}

/// Values far outside of what a code can say, infinite ones and no numbers.
TEST_P(ConvS8Kernels, CodesAreClamped) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {1e9F,      -1e9F,    3e38F,  -3e38F, infinity,
                                     -infinity, 40000.0F, -40000, 2.5F,   std::nanf("")};
  const auto n = static_cast<std::int64_t>(values.size());
  const std::vector<std::uint8_t> row(16, 0);
  const std::vector<std::int8_t> w(static_cast<std::size_t>(n), 0);
  const std::uint8_t* rows[] = {row.data()};
  for (const CodeArgs args : {CodeArgs{1, 0, 0, 255},
                              {4.0F, 255, 0, 255},
                              {0.5F, 10, 7, 9},
                              {1e20F, 128, 1, 200},
                              {2.0F, 900, 3, 250}}) {
    std::vector<std::uint8_t> want(values.size());
    const auto run = [&](const ConvS8Kernel& kernel, bool depthwise) {
      Identity out(1, n);
      std::copy(values.begin(), values.end(), out.zeros.begin());
      out.e.code_args = args;
      if (depthwise) {
        const PackedDepthwise packed = pack_depthwise(w.data(), n, 1, 1, kernel.vector_bytes);
        kernel.depthwise({rows, 1, 1, 1}, packed, out.e, 0, 0, n);
      } else {
        const PackedConv packed = pack_conv(w.data(), n, 1, 1);
        kernel.pointwise(row.data(), 16, 1, packed, out.e, 0, 0, 1);
      }
      return out.codes;
    };
    for (std::size_t j = 0; j < values.size(); ++j) {
      const double scaled = static_cast<double>(values[j] * args.inv_scale);
      // What is no number becomes the upper bound, as in the general epilogue.
      const double code = std::isnan(scaled) ? 1e6 : std::nearbyint(scaled) + args.zero;
      want[j] = static_cast<std::uint8_t>(
          std::clamp(code, static_cast<double>(args.low), static_cast<double>(args.high)));
    }
    EXPECT_EQ(run(GetParam(), false), want);
    EXPECT_EQ(run(GetParam(), true), want);
  }
}

/// The kernel text is the one of emulated_widen; only the product differs.
TEST(ConvS8, ProductOfBytePairsIsExact) {
  using V = EmulatedMaddubs<32>;
  Random random(5);
  for (int i = 0; i < 50; ++i) {
    const std::vector<std::uint8_t> x = random_codes(random, 32);
    const std::vector<std::int8_t> w = random_weights(random, 32, 64);
    const V::I32 sum = V::dot(V::I32{} + i, V::codes(V::load<V::U8>(x.data())),
                              V::weights(V::load<V::U8>(w.data())));
    for (std::size_t lane = 0; lane < 8; ++lane) {
      int want = i;
      for (std::size_t part = 4 * lane; part < 4 * lane + 4; ++part) want += x[part] * w[part];
      ASSERT_EQ(sum[lane], want);
    }
  }
}

TEST(ConvS8, ChoiceIsExactAndFastest) {
  EXPECT_EQ(choose_conv_s8(Isa::kPortable, 255, 128).name, "reference");
#if defined(QUELL_X86_64)
  EXPECT_EQ(choose_conv_s8(Isa::kAvx2, 255, 65).name, "avx2_widen");
  EXPECT_EQ(choose_conv_s8(Isa::kAvx2, 255, 64).name, "avx2_maddubs");
  EXPECT_EQ(choose_conv_s8(Isa::kAvxVnni, 255, 128).name, "avx_vnni");
  EXPECT_EQ(choose_conv_s8(Isa::kAmx, 255, 128).name, "avx512_vnni");
#endif
}

}  // namespace
}  // namespace quell::kernels
