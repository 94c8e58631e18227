// The largest value or the mean of each channel in windows over an image.
#include <algorithm>
#include <limits>

#include "quell/base/error.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

const PoolAttributes& pool_of(const Node& node) { return node.attributes.get<PoolAttributes>(); }

ValueType infer(const Graph& graph, const Node& node) {
  const PoolAttributes& pool = pool_of(node);
  const ImageSize image = image_size(graph.value(node.operand(0)).type.rows, node.label);
  const Window& w = pool.window;
  const auto fits = [](std::int64_t padding, std::int64_t kernel) { return 2 * padding <= kernel; };
  require(fits(std::max(w.padding.top, w.padding.bottom), w.kernel_height) &&
              fits(std::max(w.padding.left, w.padding.right), w.kernel_width),
          ErrorCode::kUnsupported, node.label, ": a padding of more than half a window");
  return with_image(graph, node, windows_over(image, w, pool.ceil));
}

/// Pixels of image and padding in the window that begins at `start`.
std::int64_t counted(std::int64_t start, std::int64_t kernel, std::int64_t dilation,
                     std::int64_t end) {
  std::int64_t count = 0;
  for (std::int64_t t = 0; t < kernel; ++t) count += start + t * dilation < end;
  return count;
}

}  // namespace

std::int64_t pool_divisor(const PoolAttributes& pool, ImageSize image, std::int64_t y,
                          std::int64_t x, std::int64_t inside) {
  if (pool.divisor > 0) return pool.divisor;
  if (!pool.counts_padding) return inside;

  // A window that sticks out further than the padding counts what is padding alone.
  const Window& w = pool.window;
  const std::int64_t top = y * w.stride_height - w.padding.top;
  const std::int64_t left = x * w.stride_width - w.padding.left;
  return counted(top, w.kernel_height, w.dilation_height, image.height + w.padding.bottom) *
         counted(left, w.kernel_width, w.dilation_width, image.width + w.padding.right);
}

namespace {

Tensor reference(OpCall& call) {
  const PoolAttributes& pool = pool_of(call.node());
  const TensorView x = call.in(0);
  const std::int64_t channels = x.cols();
  const ImageSize image = image_size(call.rows(0), call.node().label);
  const ImageSize size = windows_over(image, pool.window, pool.ceil);
  const TapTable taps = make_taps(image, pool.window, size);
  const bool is_max = pool.kind == PoolKind::kMax;
  constexpr float kLowest = -std::numeric_limits<float>::infinity();

  Tensor out = Tensor::uninitialized(DType::kF32, {num_images(call, 0) * size.pixels(), channels});
  const auto pool_row = [&](std::int64_t r) {
    const std::int64_t row_y = r % size.pixels() / size.width;
    const std::int64_t row_x = r % size.width;
    float* to = out.row(r);
    std::fill_n(to, channels, is_max ? kLowest : 0.0F);
    std::int64_t inside = 0;
    for (std::int64_t t = 0; t < pool.window.taps(); ++t) {
      const std::int64_t pixel =
          taps.pixel(row_y, row_x, t / taps.kernel_width, t % taps.kernel_width);
      if (pixel < 0) continue;
      const float* from = x.row(r / size.pixels() * image.pixels() + pixel);
      ++inside;
      if (is_max)
        for (std::int64_t c = 0; c < channels; ++c) to[c] = std::max(to[c], from[c]);
      else
        for (std::int64_t c = 0; c < channels; ++c) to[c] += from[c];
    }
    if (is_max) return;

    const auto divisor = static_cast<float>(pool_divisor(pool, image, row_y, row_x, inside));
    for (std::int64_t c = 0; c < channels; ++c) to[c] /= divisor;
  };
  call.ctx().pool.parallel_for(out.rows(), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) pool_row(r);
  });
  return out;
}

/// A positive scale comes out of both; a shift of the largest value, while a mean may hold padding.
ChannelPass pass(const Node& node) {
  const bool is_max = pool_of(node).kind == PoolKind::kMax;
  return {.change = is_max ? ChannelChange::kScaleAndShift : ChannelChange::kScale};
}

}  // namespace

const OpDef op_pool = {.name = "pool",
                       .infer = infer,
                       .channels = {.kind = ChannelKind::kEach, .pass = pass},
                       .reference = reference};

}  // namespace quell
