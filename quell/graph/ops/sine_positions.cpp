// Sines and cosines of a pixel's row, then of its column, each counted from 1 and brought to
// [0, 2 pi] (DETR, Carion et al. 2020).
#include <cmath>
#include <numbers>

#include "quell/base/error.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

constexpr double kTemperature = 10000;

ValueType infer(const Graph& graph, const Node& node) {
  const auto columns = node.attributes.get<std::int64_t>();
  ValueType type = like_operand(graph, node);
  image_size(type.rows, node.label);
  require(columns > 0 && columns % 4 == 0, ErrorCode::kUnsupported, node.label, ": ", columns,
          " columns are not sines and cosines of two coordinates");
  type.columns = columns;
  return type;
}

/// `count` sines and cosines, in turn, of coordinate `at` of `size`.
void write_waves(std::int64_t at, std::int64_t size, std::int64_t count, float* to) {
  constexpr double kEps = 1e-6;
  const double angle =
      static_cast<double>(at + 1) / (static_cast<double>(size) + kEps) * 2 * std::numbers::pi;
  for (std::int64_t i = 0; i < count; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(count);
    const double wave = angle / std::pow(kTemperature, exponent);
    to[i] = static_cast<float>(std::sin(wave));
    to[i + 1] = static_cast<float>(std::cos(wave));
  }
}

Tensor reference(OpCall& call) {
  const ImageSize image = image_size(call.rows(0), call.node().label);
  const auto columns = call.attributes<std::int64_t>();
  Tensor out = Tensor::uninitialized(DType::kF32, {num_images(call, 0) * image.pixels(), columns});
  for (std::int64_t r = 0; r < out.rows(); ++r) {
    const std::int64_t pixel = r % image.pixels();
    write_waves(pixel / image.width, image.height, columns / 2, out.row(r));
    write_waves(pixel % image.width, image.width, columns / 2, out.row(r) + columns / 2);
  }
  return out;
}

}  // namespace

const OpDef op_sine_positions = {.name = "sine_positions", .infer = infer, .reference = reference};

}  // namespace quell
