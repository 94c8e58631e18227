#include "quell/compress/channel_split.h"

#include <algorithm>
#include <cmath>

namespace quell {
namespace {

/// Copies of every channel where each column may still need `share` of its scale.
std::vector<std::int64_t> copies_at(std::span<const float> scale, double share) {
  constexpr double kRoom = 1e-6;  // a scale of 2.0000001 needs two
  std::vector<std::int64_t> copies;
  for (const float s : scale)
    copies.push_back(
        std::max<std::int64_t>(1, std::llround(std::ceil(static_cast<double>(s) * share - kRoom))));
  return copies;
}

std::int64_t columns_added(const std::vector<std::int64_t>& copies) {
  std::int64_t n = 0;
  for (const std::int64_t k : copies) n += k - 1;
  return n;
}

}  // namespace

ColumnSources split_channels(std::span<const float> scale, std::int64_t budget, std::int64_t unit) {
  budget = budget / unit * unit;
  if (budget == 0) return {};
  std::vector<std::int64_t> copies = copies_at(scale, 1);
  if (columns_added(copies) == 0) return {};
  if (columns_added(copies) > budget) {
    double fits = 0, too_many = 1;
    for (int i = 0; i < 40; ++i) {
      const double middle = (fits + too_many) / 2;
      (columns_added(copies_at(scale, middle)) > budget ? too_many : fits) = middle;
    }
    copies = copies_at(scale, fits);
  }
  const auto need = [&](std::size_t j) {
    return static_cast<double>(scale[j]) / static_cast<double>(copies[j]);
  };
  for (std::int64_t n = columns_added(copies); n == 0 || n % unit != 0; ++n) {
    std::size_t neediest = 0;
    for (std::size_t j = 1; j < copies.size(); ++j)
      if (need(j) > need(neediest)) neediest = j;
    ++copies[neediest];
  }
  ColumnSources sources;
  for (std::size_t j = 0; j < copies.size(); ++j) sources.push_back(static_cast<std::int32_t>(j));
  for (std::size_t j = 0; j < copies.size(); ++j)
    sources.insert(sources.end(), static_cast<std::size_t>(copies[j] - 1),
                   static_cast<std::int32_t>(j));
  return sources;
}

std::vector<float> copies_of(const ColumnSources& sources) {
  std::vector<float> count(sources.size()), out;
  for (const std::int32_t j : sources) ++count[static_cast<std::size_t>(j)];
  for (const std::int32_t j : sources) out.push_back(count[static_cast<std::size_t>(j)]);
  return out;
}

Tensor copy_shifts(const ColumnSources& sources, std::span<const float> scale, float step) {
  const std::vector<float> copies = copies_of(sources);
  std::vector<float> seen(sources.size());
  Tensor shift = Tensor::f32({static_cast<std::int64_t>(sources.size())});
  for (std::size_t c = 0; c < sources.size(); ++c) {
    const auto j = static_cast<std::size_t>(sources[c]);
    const float i = seen[j]++;
    shift.f32()[c] = (i - (copies[c] - 1) / 2) / copies[c] * step * scale[j];
  }
  return shift;
}

Tensor repeat_columns(const TensorView& x, const ColumnSources& sources) {
  Tensor out = Tensor::f32({x.rows(), static_cast<std::int64_t>(sources.size())});
  for (std::int64_t i = 0; i < x.rows(); ++i)
    for (std::size_t c = 0; c < sources.size(); ++c) out.row(i)[c] = x.row(i)[sources[c]];
  return out;
}

Tensor split_columns(const TensorView& weight, const ColumnSources& sources) {
  Tensor out = repeat_columns(weight, sources);
  const std::vector<float> copies = copies_of(sources);
  for (std::int64_t i = 0; i < out.rows(); ++i)
    for (std::size_t c = 0; c < sources.size(); ++c) out.row(i)[c] /= copies[c];
  return out;
}

}  // namespace quell
