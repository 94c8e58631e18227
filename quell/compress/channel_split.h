// Channels that are larger than the range of a quantizer, spread over several columns (Zhao et al.,
// Improving Neural Network Quantization without Retraining using Outlier Channel Splitting, ICML
// 2019): k copies of channel j, the weights behind each divided by k, so that the float function
// stays; the quantizer then divides each copy by a scale without weights that grow.
//   sum over i < k of round(y + (i - (k - 1) / 2) / k) = round(k y):
// copies that are shifted by k-ths of a step represent the channel k times finer than one
// (section 3.3 there).
#pragma once

#include <span>
#include <vector>

#include "quell/tensor/tensor.h"

namespace quell {

/// The channel that each column is a copy of: first all channels in order, then the copies.
using ColumnSources = std::vector<std::int32_t>;

/// Copies for channels that would need `scale` [C] (1: fits), at most `budget` columns more, in
/// multiples of `unit`: each channel gets as many as its scale, or the same share of that where the
/// budget does not reach. Empty where no channel needs one.
ColumnSources split_channels(std::span<const float> scale, std::int64_t budget, std::int64_t unit);

/// By column: how many columns share its source.
std::vector<float> copies_of(const ColumnSources& sources);
/// By column: what to subtract from a channel before it is divided by scale[source] and rounded to
/// multiples of `step`. Sums to zero over the copies of a channel.
Tensor copy_shifts(const ColumnSources& sources, std::span<const float> scale, float step);

/// Columns of x [T, C] -> [T, C'].
Tensor repeat_columns(const TensorView& x, const ColumnSources& sources);
/// The same of a weight [O, C], divided by the number of copies.
Tensor split_columns(const TensorView& weight, const ColumnSources& sources);

}  // namespace quell
