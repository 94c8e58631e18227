#include "quell/ops/convolution.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quell/base/error.h"
#include "quell/ops/linear.h"

namespace quell {
namespace {

/// Elements of the gathered matrix that are there at a time; a bound, not part of the result's
/// meaning.
constexpr std::int64_t kGathered = std::int64_t{1} << 21;

struct Convolution {
  TensorView x;
  const TapTable& taps;
  TensorView w;
  TensorView bias;
  std::int64_t groups;
  std::vector<float> padding;  ///< [I]
  TensorSpan y;

  std::int64_t num_taps() const { return taps.kernel_height * taps.kernel_width; }
  std::int64_t group_in() const { return x.cols() / groups; }
  std::int64_t group_out() const { return w.rows() / groups; }

  /// What a tap of output row `row` sees: channels of one pixel.
  const float* seen(std::int64_t row, std::int64_t tap) const {
    const std::int64_t image = row / taps.out.pixels();
    const std::int64_t at = row % taps.out.pixels();
    const std::int64_t pixel = taps.pixel(at / taps.out.width, at % taps.out.width,
                                          tap / taps.kernel_width, tap % taps.kernel_width);
    return pixel < 0 ? padding.data() : x.row(image * taps.image.pixels() + pixel);
  }
};

/// Numbers too small for a normal f32 are 0. Weight decay leaves whole channels of them, and
/// processors take a hundred times as long for each.
float flushed(float v) { return std::abs(v) < std::numeric_limits<float>::min() ? 0.0F : v; }

void copy_flushed(const float* from, std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = flushed(from[i]);
}

/// What the taps of output rows [first, first + out.rows()) see of the channels of a group:
/// [rows, taps * group_in].
void gather(const Convolution& c, std::int64_t first, std::int64_t group, TensorSpan out,
            ExecContext& ctx) {
  const std::int64_t channels = c.group_in();
  ctx.pool.parallel_for(out.rows(), 32, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      for (std::int64_t t = 0; t < c.num_taps(); ++t)
        copy_flushed(c.seen(first + r, t) + group * channels, channels, out.row(r) + t * channels);
  });
}

/// Rows [begin, end) of a matrix.
TensorView rows_of(const TensorView& m, std::int64_t begin, std::int64_t end) {
  return {m.row(begin), DType::kF32, {end - begin, m.cols()}};
}

TensorView elements_of(const TensorView& v, std::int64_t begin, std::int64_t end) {
  if (v.numel() == 0) return {};
  return {v.f32().data() + begin, DType::kF32, {end - begin}};
}

void by_matrices(const Convolution& c, ExecContext& ctx) {
  const std::int64_t columns = c.w.cols();
  const std::int64_t block = std::clamp<std::int64_t>(kGathered / columns, 64, 8192);
  const std::int64_t outs = c.group_out();

  for (std::int64_t first = 0; first < c.y.rows(); first += block) {
    const std::int64_t rows = std::min(block, c.y.rows() - first);
    Tensor seen = Tensor::uninitialized(DType::kF32, {rows, columns});
    for (std::int64_t g = 0; g < c.groups; ++g) {
      gather(c, first, g, seen.span(), ctx);
      const TensorView w = rows_of(c.w, g * outs, (g + 1) * outs);
      const TensorView bias = elements_of(c.bias, g * outs, (g + 1) * outs);
      if (c.groups == 1) {
        matmul_nt(seen, w, bias, TensorSpan(c.y.row(first), DType::kF32, {rows, outs}), ctx);
        continue;
      }

      Tensor part = Tensor::uninitialized(DType::kF32, {rows, outs});
      matmul_nt(seen, w, bias, part.span(), ctx);
      for (std::int64_t r = 0; r < rows; ++r)
        std::copy_n(part.row(r), outs, c.y.row(first + r) + g * outs);
    }
  }
}

/// Groups of one channel, which may have several outputs each.
void depthwise(const Convolution& c, ExecContext& ctx) {
  const std::int64_t outs = c.w.rows();
  const std::int64_t num_taps = c.num_taps();
  const std::int64_t outs_a_channel = c.group_out();
  std::vector<float> by_tap(static_cast<std::size_t>(num_taps * outs));
  for (std::int64_t o = 0; o < outs; ++o)
    for (std::int64_t t = 0; t < num_taps; ++t)
      by_tap[static_cast<std::size_t>(t * outs + o)] = c.w.row(o)[t];

  ctx.pool.parallel_for(c.y.rows(), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      float* y = c.y.row(r);
      if (c.bias.numel() > 0)
        std::copy_n(c.bias.f32().data(), outs, y);
      else
        std::fill_n(y, outs, 0.0F);

      for (std::int64_t t = 0; t < num_taps; ++t) {
        const float* x = c.seen(r, t);
        const float* w = by_tap.data() + t * outs;
        if (outs_a_channel == 1)
          for (std::int64_t o = 0; o < outs; ++o) y[o] += w[o] * x[o];
        else
          for (std::int64_t o = 0; o < outs; ++o) y[o] += w[o] * x[o / outs_a_channel];
      }
    }
  });
}

Convolution make_convolution(const TensorView& x, const ConvGeometry& g, const TensorView& w,
                             const TensorView& bias, TensorSpan y) {
  Convolution c{x, g.taps, w, bias, g.groups, g.padding, y};
  c.padding.resize(static_cast<std::size_t>(x.cols()));
  return c;
}

}  // namespace

void convolve(const TensorView& x, const ConvGeometry& g, const TensorView& w,
              const TensorView& bias, TensorSpan y, ExecContext& ctx) {
  const TapTable& taps = g.taps;
  const std::int64_t num_taps = taps.kernel_height * taps.kernel_width;
  const std::int64_t images = x.rows() / taps.image.pixels();
  require(x.rows() == images * taps.image.pixels() && y.rows() == images * taps.out.pixels() &&
              y.cols() == w.rows() && w.cols() * g.groups == num_taps * x.cols() &&
              w.rows() % g.groups == 0 && (bias.numel() == 0 || bias.numel() == w.rows()) &&
              (g.padding.empty() || static_cast<std::int64_t>(g.padding.size()) == x.cols()),
          ErrorCode::kInvalidInput, "convolution: ", x.shape().to_string(), " with a weight of ",
          w.shape().to_string(), " does not give ", y.shape().to_string());

  Tensor weight = Tensor::uninitialized(DType::kF32, w.shape());
  copy_flushed(w.f32().data(), w.numel(), weight.f32().data());
  const Convolution c = make_convolution(x, g, weight, bias, y);
  // Each pixel by itself: x is what a gather would make.
  if (g.groups == 1 && taps.reads_in_place())
    matmul_nt(x, weight, bias, y, ctx);
  else if (g.groups == x.cols())
    depthwise(c, ctx);
  else
    by_matrices(c, ctx);
}

void for_each_patch_block(std::span<const TensorView> inputs, const ConvGeometry& g,
                          std::int64_t group, ExecContext& ctx,
                          const std::function<void(std::span<const Tensor> patches)>& see) {
  std::vector<Convolution> all;
  for (const TensorView& x : inputs)
    all.push_back(make_convolution(x, g, {}, {}, TensorSpan(nullptr, DType::kF32, {0, 0})));
  const std::int64_t columns = all.front().num_taps() * all.front().group_in();
  const std::int64_t block = std::clamp<std::int64_t>(kGathered / columns, 64, 8192);
  const std::int64_t rows = g.out_rows(inputs.front().rows());

  for (std::int64_t first = 0; first < rows; first += block) {
    std::vector<Tensor> seen;
    for (const Convolution& c : all) {
      seen.push_back(Tensor::uninitialized(DType::kF32, {std::min(block, rows - first), columns}));
      gather(c, first, group, seen.back().span(), ctx);
    }
    see(seen);
  }
}

void compute_product(const TensorView& x, const TensorView& w, const TensorView& bias,
                     const ConvGeometry* geometry, TensorSpan y, ExecContext& ctx) {
  if (geometry)
    convolve(x, *geometry, w, bias, y, ctx);
  else
    matmul_nt(x, w, bias, y, ctx);
}

}  // namespace quell
