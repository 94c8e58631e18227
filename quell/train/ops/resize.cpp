// Images of another size: the nearest pixel, or between the four around.
#include "quell/train/ops/planes.h"

namespace quell::train {
namespace {

/// The nearest pixel of `from` for each of `to`.
torch::Tensor nearest(std::int64_t from, std::int64_t to) {
  return torch::div(torch::arange(to) * from, to, "floor");
}

}  // namespace

extern const TorchOp k_resize;
const TorchOp k_resize = {
    &op_resize, [](TorchCall& call) -> torch::Tensor {
      const auto& resize = call.attributes<ResizeAttributes>();
      const ImageSize size = resize.size;
      const torch::Tensor planes = planes_of(call, 0);
      if (resize.kind == ResizeKind::kBilinear)
        return rows_of(torch::upsample_bilinear2d(planes.contiguous(), {size.height, size.width},
                                                  resize.align_corners));
      return rows_of(planes.index_select(2, nearest(planes.size(2), size.height))
                         .index_select(3, nearest(planes.size(3), size.width)));
    }};

}  // namespace quell::train
