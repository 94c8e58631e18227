// The scale of Outlier Suppression+ (Wei et al., EMNLP 2023) for what convolutions read: thresholds
// are tried as they will run, on a few images.
#pragma once

#include "quell/compress/site.h"

namespace quell {

/// s_j(t) = max(1, max|x_j| / t) for t = max|x| k / K, K = 20, k falling; of those the one whose
/// quantized products differ least from the float ones in squared error; the largest t wins ties. x
/// is divided by s, and gets the range that it then spans; weights are multiplied by it and rounded
/// to nearest. [C]; all 1 where no scale is better than none. Static activations per tensor.
Tensor search_convolution_scale(const Site& site, const SiteActivations& activations,
                                const QuantSpec& weights, const QuantSpec& input, ExecContext& ctx);

}  // namespace quell
