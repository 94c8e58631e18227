#include "quell/compress/os_plus_search.h"

#include <algorithm>

#include "quell/compress/channel_stats.h"

namespace quell {
namespace {

Tensor scale_at(const ChannelStats& stats, float t) {
  Tensor s = Tensor::f32({static_cast<std::int64_t>(stats.max.size())});
  for (std::size_t j = 0; j < stats.max.size(); ++j) {
    const float up = stats.max[j] > t ? stats.max[j] / t : 1.0F, down = stats.min[j] < -t ? stats.min[j] / -t : 1.0F;
    s.f32()[j] = std::max(up, down);
  }
  return s;
}

Range scaled_range(const ChannelStats& stats, const Tensor& scale) {
  Range r{stats.min.front() / scale.f32().front(), stats.max.front() / scale.f32().front()};
  for (std::size_t j = 0; j < stats.max.size(); ++j)
    r = {std::min(r.min, stats.min[j] / scale.f32()[j]), std::max(r.max, stats.max[j] / scale.f32()[j])};
  return r;
}

/// As the reference counts: by repeated subtraction in double.
std::vector<double> grid(const ChannelStats& stats, double floor) {
  const double amax = std::max(0.0, static_cast<double>(*std::max_element(stats.max.begin(), stats.max.end())));
  const double amin = std::min(0.0, static_cast<double>(*std::min_element(stats.min.begin(), stats.min.end())));
  const int num = std::max(100, static_cast<int>(amax / 0.5));
  const double high = std::max(-amin, amax), step = (high - floor) / num;
  std::vector<double> out;
  for (double t = high; t >= floor; t -= step) {
    out.push_back(t);
    if (step <= 0) break;  // high == floor: one candidate
  }
  return out;
}

}  // namespace

OsPlusResult search_threshold(const SiteProblem& problem, const OsPlusOptions& options, ExecContext& ctx) {
  SiteActivations views{{}, problem.batches};
  for (const Tensor& x : problem.x) views.x.push_back(&x);
  const ChannelStats stats = channel_stats(views, options.include_padding, "OS+ search");
  OsPlusResult result{.thresholds = grid(stats, options.floor), .race = {}, .scale = {}};
  std::vector<SiteCandidate> candidates;
  for (const double threshold : result.thresholds) {
    const auto t = static_cast<float>(threshold);
    Tensor scale = scale_at(stats, t);
    const Range range = options.tight_range ? scaled_range(stats, scale) : Range{-t, t};
    candidates.push_back({std::move(scale), range});
  }
  result.race = race(problem, candidates, options.race, ctx);
  if (result.race.best >= 0) {
    result.scale = std::move(candidates[static_cast<std::size_t>(result.race.best)].scale);
  } else {
    result.scale = Tensor::f32({static_cast<std::int64_t>(stats.max.size())});
    std::fill(result.scale.f32().begin(), result.scale.f32().end(), 1.0F);
  }
  return result;
}

}  // namespace quell
