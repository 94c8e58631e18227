// Extrema per channel over the tokens of a site.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "quell/compress/site.h"

namespace quell {

struct ChannelStats {
  std::vector<float> min, max;  ///< [C]
};

/// Channels that one row of values makes get the largest number among them.
void tie_largest(const SharedHeads& shared, std::span<float> by_channel);

/// Over all tokens whose mask is 1, or over all rows when `include_padding`. Throws Error(kNumeric)
/// on NaN or infinity.
ChannelStats channel_stats(const SiteActivations& activations, bool include_padding,
                           const std::string& what);

/// Mean square per channel [C] over tokens whose mask is 1.
std::vector<float> mean_squares(const SiteActivations& activations);

/// Whether row `i` of `x` counts: rows are tokens of the batch, or one a sequence (pooled values).
bool row_counts(const TensorView& x, const TokenBatch& batch, std::int64_t i);

}  // namespace quell
