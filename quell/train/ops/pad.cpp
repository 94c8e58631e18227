// A value around images, and in front of and behind the channels.
#include "quell/train/ops/planes.h"

namespace quell::train {

extern const TorchOp k_pad;
const TorchOp k_pad = {
    &op_pad, [](TorchCall& call) -> torch::Tensor {
      const auto& pad = call.attributes<PadAttributes>();
      const torch::Tensor around = rows_of(padded(planes_of(call, 0), pad.padding, pad.value));
      return torch::constant_pad_nd(around, {pad.channels_before, pad.channels_behind}, pad.value);
    }};

}  // namespace quell::train
