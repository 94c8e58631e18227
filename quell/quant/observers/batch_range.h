// What one batch of values says about the range of a quantizer. Formulas and defaults follow the
// reference implementations of Outlier Suppression and Outlier Suppression+.
#pragma once

#include <span>

#include "quell/quant/quant_spec.h"

namespace quell {

/// Values of one batch, a token each, padding left out.
using TokenRows = std::span<const std::span<const float>>;

Range min_max_range(TokenRows rows);

/// Percentile: c is the middle of the first bin of a histogram of |x| on [0, max|x|] at which
/// `quantile` of all values are reached; the range ends at -c and c, or at the extrema where they
/// lie inside.
Range quantile_range(TokenRows rows, double quantile, int bins = 2048);

/// OMSE: of a grid of 100 ranges, with every zero point where codes are asymmetric and the values
/// have both signs, the one whose quantized values have the smallest squared error; the first of
/// equals.
Range mse_range(TokenRows rows, const QuantSpec& spec);

/// The same error, its minimum found by bounded Brent search instead of a grid: over the reach of
/// symmetric or one-sided ranges; else over the width of the range and, for every width, over where
/// it begins, once more for the best width.
Range fast_mse_range(TokenRows rows, const QuantSpec& spec);

}  // namespace quell
