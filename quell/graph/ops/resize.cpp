// Images of another size: the nearest pixel, or between the four around.
#include <algorithm>

#include "quell/graph/image_ops.h"

namespace quell {
namespace {

/// Two neighbours along one axis, and how much of the second.
struct Neighbours {
  std::int64_t first = 0;
  std::int64_t second = 0;
  float part = 0;
};

/// Where pixel `p` of `to` lies in `from`, both along one axis.
double place_of(std::int64_t p, std::int64_t from, std::int64_t to, bool align_corners) {
  if (align_corners)
    return to > 1 ? static_cast<double>(p * (from - 1)) / static_cast<double>(to - 1) : 0;

  const double ratio = static_cast<double>(from) / static_cast<double>(to);
  return std::max((static_cast<double>(p) + 0.5) * ratio - 0.5, 0.0);
}

std::vector<Neighbours> along(std::int64_t from, std::int64_t to, const ResizeAttributes& resize) {
  std::vector<Neighbours> out;
  for (std::int64_t p = 0; p < to; ++p) {
    if (resize.kind == ResizeKind::kNearest) {
      const std::int64_t nearest = p * from / to;
      out.push_back({nearest, nearest, 0});
      continue;
    }
    const double place = place_of(p, from, to, resize.align_corners);
    const auto first = std::min(static_cast<std::int64_t>(place), from - 1);
    const auto part = static_cast<float>(place - static_cast<double>(first));
    out.push_back({first, std::min(first + 1, from - 1), part});
  }
  return out;
}

ValueType infer(const Graph& graph, const Node& node) {
  return with_image(graph, node, node.attributes.get<ResizeAttributes>().size);
}

Tensor reference(OpCall& call) {
  const auto& resize = call.attributes<ResizeAttributes>();
  const TensorView x = call.in(0);
  const ImageSize image = image_size(call.rows(0), call.node().label);
  const ImageSize size = resize.size;
  const std::vector<Neighbours> rows = along(image.height, size.height, resize);
  const std::vector<Neighbours> columns = along(image.width, size.width, resize);

  const std::int64_t channels = x.cols();
  Tensor out = Tensor::uninitialized(DType::kF32, {num_images(call, 0) * size.pixels(), channels});
  call.ctx().pool.parallel_for(out.rows(), 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t first = r / size.pixels() * image.pixels();
      const Neighbours& y = rows[static_cast<std::size_t>(r % size.pixels() / size.width)];
      const Neighbours& at = columns[static_cast<std::size_t>(r % size.width)];
      const float* a = x.row(first + y.first * image.width + at.first);
      const float* b = x.row(first + y.first * image.width + at.second);
      const float* c = x.row(first + y.second * image.width + at.first);
      const float* d = x.row(first + y.second * image.width + at.second);
      for (std::int64_t j = 0; j < channels; ++j) {
        const float above = (1 - at.part) * a[j] + at.part * b[j];
        const float below = (1 - at.part) * c[j] + at.part * d[j];
        out.row(r)[j] = (1 - y.part) * above + y.part * below;
      }
    }
  });
  return out;
}

/// Parts add up to one.
ChannelPass pass(const Node&) { return {.change = ChannelChange::kScaleAndShift}; }

}  // namespace

const OpDef op_resize = {.name = "resize",
                         .infer = infer,
                         .channels = {.kind = ChannelKind::kEach, .pass = pass},
                         .reference = reference};

}  // namespace quell
