// What norm and head_norm share.
#pragma once

#include "quell/train/torch_op.h"

namespace quell::train {

/// Each row of x normalized, times weight, plus bias; either may be undefined.
inline torch::Tensor normalized(const NormAttributes& norm, const torch::Tensor& x,
                                const torch::Tensor& weight, const torch::Tensor& bias) {
  if (norm.kind == NormKind::kLayerNorm)
    return torch::layer_norm(x, {x.size(1)}, weight, bias, norm.eps);

  const torch::Tensor mean_square = x.square().mean(1, /*keepdim=*/true);
  torch::Tensor y = x * torch::rsqrt(mean_square + norm.eps);
  if (weight.defined()) y = y * weight;
  return bias.defined() ? y + bias : y;
}

}  // namespace quell::train
