#include "quell/compress/os_plus_search.h"

#include <algorithm>

#include "quell/compress/channel_stats.h"

namespace quell {
namespace {

Tensor scale_at(const ChannelStats& stats, float t, DType type) {
  Tensor s = Tensor::f32({static_cast<std::int64_t>(stats.max.size())});
  for (std::size_t j = 0; j < stats.max.size(); ++j) {
    const float up = stats.max[j] > t ? stats.max[j] / t : 1.0F,
                down = stats.min[j] < -t ? stats.min[j] / -t : 1.0F;
    s.f32()[j] = round_to(type, std::max(up, down));
  }
  return s;
}

Range scaled_range(const ChannelStats& stats, const Tensor& scale, DType type) {
  Range r{stats.min.front() / scale.f32().front(), stats.max.front() / scale.f32().front()};
  for (std::size_t j = 0; j < stats.max.size(); ++j)
    r = {std::min(r.min, stats.min[j] / scale.f32()[j]),
         std::max(r.max, stats.max[j] / scale.f32()[j])};
  return {round_to(type, r.min), round_to(type, r.max)};
}

/// kCode as the reference counts: by repeated subtraction in double.
std::vector<double> thresholds_of(const ChannelStats& stats, double floor, ThresholdGrid grid) {
  const double amax =
      std::max(0.0, static_cast<double>(*std::max_element(stats.max.begin(), stats.max.end())));
  const double amin =
      std::min(0.0, static_cast<double>(*std::min_element(stats.min.begin(), stats.min.end())));
  const int num = std::max(100, static_cast<int>(amax / 0.5));
  const double high = std::max(-amin, amax), step = (high - floor) / num;
  std::vector<double> out;
  if (grid == ThresholdGrid::kPaper) {
    for (int k = num; k > 0 && high > 0 && high * k / num >= floor; --k)
      out.push_back(high * k / num);
    return out;
  }
  for (double t = high; t >= floor; t -= step) {
    out.push_back(t);
    if (step <= 0) break;  // high == floor: one candidate
  }
  return out;
}

class Search {
 public:
  Search(const SiteProblem& problem, const OsPlusOptions& options)
      : problem_(problem), options_(options), type_(rounded_to(options.race.arithmetic)) {}

  OsPlusResult run(ExecContext& ctx) const {
    const bool holdout = options_.holdout && problem_.x.size() > 1;
    const ChannelStats all = stats(1), tried = holdout ? stats(2) : all;
    OsPlusResult result;
    const double lowest = options_.grid == ThresholdGrid::kPaper ? 0 : options_.floor;
    result.thresholds = thresholds_of(tried, std::max(lowest, peer_extreme(tried)), options_.grid);
    std::vector<SiteCandidate> candidates;
    for (const double t : result.thresholds) candidates.push_back(scaled(tried, t));
    const std::size_t unsplit = candidates.size();
    for (std::size_t i = 0; i < unsplit; ++i) {
      SiteCandidate wide = split(candidates[i]);
      if (wide.sources.empty()) continue;
      result.thresholds.push_back(result.thresholds[i]);
      candidates.push_back(std::move(wide));
    }
    RaceOptions options = options_.race;
    options.odd_batches = holdout;
    result.race = race(problem_, candidates, options, ctx);
    if (result.race.best < 0) {
      result.scale = Tensor::f32({static_cast<std::int64_t>(all.max.size())});
      std::fill(result.scale.f32().begin(), result.scale.f32().end(), 1.0F);
      return result;
    }
    const auto best = static_cast<std::size_t>(result.race.best);
    SiteCandidate winner = std::move(candidates[best]);
    if (holdout) {
      winner = scaled(all, result.thresholds[best]);
      if (SiteCandidate wide = best < unsplit ? SiteCandidate() : split(winner);
          !wide.sources.empty())
        winner = std::move(wide);
    }
    result.range = winner.range;
    result.scale = std::move(winner.scale);
    result.sources = std::move(winner.sources);
    result.shift = std::move(winner.shift);
    return result;
  }

 private:
  /// The extreme that a share `peers` of the channels stays below; 0 where that is not asked for.
  double peer_extreme(const ChannelStats& stats) const {
    if (options_.peers <= 0) return 0;
    std::vector<float> extremes;
    for (std::size_t j = 0; j < stats.max.size(); ++j)
      extremes.push_back(std::max(stats.max[j], -stats.min[j]));
    const auto at =
        static_cast<std::size_t>(options_.peers * static_cast<double>(extremes.size() - 1));
    std::nth_element(extremes.begin(), extremes.begin() + static_cast<std::ptrdiff_t>(at),
                     extremes.end());
    return static_cast<double>(extremes[at]);
  }

  /// Of every `stride`-th batch.
  ChannelStats stats(std::size_t stride) const {
    SiteActivations views;
    views.shared = problem_.shared;
    for (std::size_t b = 0; b < problem_.x.size(); b += stride) {
      views.x.push_back(problem_.x[b]);
      views.batches.push_back(problem_.batches[b]);
    }
    ChannelStats stats = channel_stats(views, options_.include_padding, "OS+ search");
    for (std::size_t j = 0; j < stats.max.size(); ++j)  // rounding keeps the order
      for (float* v : {&stats.min[j], &stats.max[j]}) {
        *v = round_to(type_, *v);
        if (problem_.shift.defined()) *v = round_to(type_, *v - problem_.shift.f32()[j]);
      }
    return stats;
  }

  SiteCandidate scaled(const ChannelStats& stats, double threshold) const {
    const float t = round_to(type_, static_cast<float>(threshold));
    Tensor scale = scale_at(stats, t, type_);
    const Range range = options_.tight_range ? scaled_range(stats, scale, type_) : Range{-t, t};
    return {std::move(scale), range};
  }

  /// The same with channels above the threshold spread over columns; no sources where there are
  /// none.
  SiteCandidate split(const SiteCandidate& from) const {
    SiteCandidate wide;
    wide.sources = split_channels(from.scale.f32(), options_.split_columns, options_.split_unit);
    if (wide.sources.empty()) return wide;
    wide.range = from.range;
    wide.scale = Tensor::f32({static_cast<std::int64_t>(wide.sources.size())});
    for (std::size_t c = 0; c < wide.sources.size(); ++c)
      wide.scale.f32()[c] = from.scale.f32()[static_cast<std::size_t>(wide.sources[c])];
    wide.shift = copy_shifts(wide.sources, from.scale.f32(),
                             calculate_qparams(wide.range, problem_.activations).scale);
    return wide;
  }

  const SiteProblem& problem_;
  const OsPlusOptions& options_;
  DType type_;
};

}  // namespace

OsPlusResult search_threshold(const SiteProblem& problem, const OsPlusOptions& options,
                              ExecContext& ctx) {
  return Search(problem, options).run(ctx);
}

}  // namespace quell
