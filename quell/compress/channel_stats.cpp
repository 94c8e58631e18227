#include "quell/compress/channel_stats.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"

namespace quell {

bool row_counts(const TensorView& x, const TokenBatch& batch, std::int64_t i) {
  return x.rows() != batch.rows() || batch.mask[static_cast<std::size_t>(i)] != 0;
}

void tie_largest(const SharedHeads& shared, std::span<float> by_channel) {
  if (shared.heads == 1) return;
  std::vector<float> rows(by_channel.size() / static_cast<std::size_t>(shared.heads), -INFINITY);
  const auto row = [&](std::size_t j) -> float& {
    return rows[static_cast<std::size_t>(shared.row_of(static_cast<std::int64_t>(j)))];
  };
  for (std::size_t j = 0; j < by_channel.size(); ++j) row(j) = std::max(row(j), by_channel[j]);
  for (std::size_t j = 0; j < by_channel.size(); ++j) by_channel[j] = row(j);
}

ChannelStats channel_stats(const SiteActivations& activations, bool include_padding,
                           const std::string& what) {
  const auto channels = static_cast<std::size_t>(activations.x.front()->cols());
  ChannelStats stats{std::vector<float>(channels, INFINITY),
                     std::vector<float>(channels, -INFINITY)};
  bool finite = true;
  for (std::size_t b = 0; b < activations.x.size(); ++b) {
    const Tensor& x = *activations.x[b];
    for (std::int64_t i = 0; i < x.rows(); ++i) {
      if (!include_padding && !row_counts(x, *activations.batches[b], i)) continue;
      const float* row = x.row(i);
      for (std::size_t j = 0; j < channels; ++j) {
        finite &= std::isfinite(row[j]);
        stats.min[j] = std::min(stats.min[j], row[j]);
        stats.max[j] = std::max(stats.max[j], row[j]);
      }
    }
  }
  for (float& v : stats.min) v = -v;
  for (std::vector<float>* v : {&stats.min, &stats.max}) tie_largest(activations.shared, *v);
  for (float& v : stats.min) v = -v;
  require(finite, ErrorCode::kNumeric, what,
          ": activations hold NaN or infinity; the model or the calibration data is damaged");
  return stats;
}

std::vector<float> mean_squares(const SiteActivations& activations) {
  std::vector<double> sums(static_cast<std::size_t>(activations.x.front()->cols()));
  double rows = 0;
  for (std::size_t b = 0; b < activations.x.size(); ++b) {
    const Tensor& x = *activations.x[b];
    for (std::int64_t i = 0; i < x.rows(); ++i) {
      if (!row_counts(x, *activations.batches[b], i)) continue;
      ++rows;
      for (std::size_t j = 0; j < sums.size(); ++j)
        sums[j] += static_cast<double>(x.row(i)[j]) * static_cast<double>(x.row(i)[j]);
    }
  }
  std::vector<float> out;
  for (const double s : sums) out.push_back(static_cast<float>(s / std::max(rows, 1.0)));
  return out;
}

}  // namespace quell
