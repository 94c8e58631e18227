// Scale and codes by turns, in plain loops: composed of tensor operations they would take half as
// long as the product that the weight is for.
#pragma once

#include <cstdint>

namespace quell::train {

/// The scale of `count` weights after all alternations (LAQ): first the mean magnitude weighted by
/// `metric` (all equal where it is null), then each time that of the codes before, which are
/// w / scale rounded half to even between -n and n, n = 2^(bits-1) - 1. Sums are in f64, quotients
/// in `Real`, which is float or double. 0 where all weights are.
template <typename Real>
Real alternated_scale(const Real* w, const Real* metric, std::int64_t count, int bits,
                      int alternations);

}  // namespace quell::train
