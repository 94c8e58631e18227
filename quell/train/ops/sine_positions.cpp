// Sines and cosines of a pixel's row, then of its column, each counted from 1 and brought to
// [0, 2 pi]: constants.
#include <numbers>

#include "quell/train/ops/planes.h"

namespace quell::train {
namespace {

/// `count` sines and cosines, in turn, of each of `size` coordinates.
torch::Tensor waves(std::int64_t size, std::int64_t count) {
  constexpr double kTemperature = 10000;
  constexpr double kEps = 1e-6;
  const torch::Tensor places = torch::arange(size, torch::kFloat64) + 1;
  const torch::Tensor angles = places / (static_cast<double>(size) + kEps) * 2 * std::numbers::pi;
  const torch::Tensor exponents =
      torch::arange(0, count, 2, torch::kFloat64) / static_cast<double>(count);
  const torch::Tensor each = angles.unsqueeze(1) / torch::pow(kTemperature, exponents);
  return torch::stack({torch::sin(each), torch::cos(each)}, -1).view({size, count});
}

}  // namespace

extern const TorchOp k_sine_positions;
const TorchOp k_sine_positions = {
    &op_sine_positions, [](TorchCall& call) -> torch::Tensor {
      const ImageSize image = image_size(call.rows(0), call.node().label);
      const std::int64_t half = call.attributes<std::int64_t>() / 2;
      const std::int64_t images = call.in(0).size(0) / image.pixels();
      const torch::Tensor rows =
          waves(image.height, half).unsqueeze(1).expand({image.height, image.width, half});
      const torch::Tensor columns =
          waves(image.width, half).unsqueeze(0).expand({image.height, image.width, half});
      const torch::Tensor of_image =
          torch::cat({rows, columns}, -1).view({image.pixels(), 2 * half});
      return of_image.repeat({images, 1}).to(call.dtype());
    }};

}  // namespace quell::train
