// The largest value or the mean of each channel in windows over an image.
#include <limits>

#include "quell/train/ops/planes.h"

namespace quell::train {
namespace {

/// Sums over windows.
torch::Tensor window_sums(const torch::Tensor& planes, const Window& w, ImageSize size) {
  const std::int64_t channels = planes.size(1);
  const torch::Tensor ones =
      torch::ones({channels, 1, w.kernel_height, w.kernel_width}, planes.scalar_type());
  return torch::conv2d(reached_by(planes, w, size, 0), ones, {}, {w.stride_height, w.stride_width},
                       at::IntArrayRef{0, 0}, {w.dilation_height, w.dilation_width}, channels);
}

torch::Tensor divisors(const PoolAttributes& pool, ImageSize image, ImageSize size,
                       torch::ScalarType dtype) {
  const torch::Tensor inside = window_sums(
      torch::ones({1, 1, image.height, image.width}, torch::kFloat64), pool.window, size);
  torch::Tensor out = torch::empty({size.height, size.width}, torch::kFloat64);
  for (std::int64_t y = 0; y < size.height; ++y)
    for (std::int64_t x = 0; x < size.width; ++x) {
      const auto pixels = static_cast<std::int64_t>(inside[0][0][y][x].item<double>());
      out[y][x] = pool_divisor(pool, image, y, x, pixels);
    }
  return out.to(dtype);
}

}  // namespace

extern const TorchOp k_pool;
const TorchOp k_pool = {
    &op_pool, [](TorchCall& call) -> torch::Tensor {
      const auto& pool = call.attributes<PoolAttributes>();
      const Window& w = pool.window;
      const ImageSize image = image_size(call.rows(0), call.node().label);
      const ImageSize size = windows_over(image, w, pool.ceil);
      const torch::Tensor planes = planes_of(call, 0);
      if (pool.kind == PoolKind::kAverage)
        return rows_of(window_sums(planes, w, size) / divisors(pool, image, size, call.dtype()));

      constexpr double kLowest = -std::numeric_limits<double>::infinity();
      return rows_of(torch::max_pool2d(
          reached_by(planes, w, size, kLowest), {w.kernel_height, w.kernel_width},
          {w.stride_height, w.stride_width}, 0, {w.dilation_height, w.dilation_width}));
    }};

}  // namespace quell::train
