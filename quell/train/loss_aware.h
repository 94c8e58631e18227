// Scale and codes with the least error weighted by a metric: sum of D (scale * code - w)^2.
#pragma once

#include <torch/torch.h>

#include "quell/train/fake_quantizer.h"

namespace quell::train {

/// value = scale * code; codes are multiples of 1 / (2^(bits-1) - 1) in [-1, 1].
struct ScaledCodes {
  torch::Tensor codes;  ///< [groups, elements]
  torch::Tensor scale;  ///< [groups, 1]
};

/// Square root of the optimizer's second moment, which stands for the curvature of the loss;
/// undefined (the same weight for all) before there is one.
torch::Tensor loss_metric(const TrainingStep& step);

/// Codes for the mean magnitude, then `alternations` times: scale = |code D w|_1 / |code D|_1, and
/// codes = w / scale rounded half to even. The scale that counts is the one from before the last
/// rounding. `metric` like `w`, or undefined.
ScaledCodes alternate(const torch::Tensor& w, const torch::Tensor& metric, int bits,
                      int alternations);

/// Ternary codes and scale with the least weighted error there is.
ScaledCodes best_ternary(const torch::Tensor& w, const torch::Tensor& metric);

}  // namespace quell::train
