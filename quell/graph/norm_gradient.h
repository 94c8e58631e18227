// The way back through norms, shared by norm and head_norm.
#pragma once

#include "quell/graph/ops.h"

namespace quell {

/// y = xh w + b with xh = (x - mean) / sigma. `gradient` dL/dy [rows, columns] becomes dL/dx =
/// (d - mean(d) - xh mean(d xh)) / sigma with d = dy w; RMS norm without means. `weight` [columns]
/// may be undefined.
void norm_backward(const NormAttributes& norm, const TensorView& x, const Tensor& weight,
                   Tensor& gradient, ExecContext& ctx);

}  // namespace quell
