#include "quell/quant/observers/batch_range.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "quell/quant/observers/minimize.h"
#include "quell/quant/rounding.h"

namespace quell {
namespace {

/// Sum of squared errors of the quantizer of `range`, or some value above `limit` once it exceeds
/// that.
double squared_error(TokenRows rows, Range range, const QuantSpec& spec, double limit) {
  const StepAndZero qp = calculate_qparams(range, spec);
  const auto zero = static_cast<float>(qp.zero_point), low = static_cast<float>(spec.min_code()),
             high = static_cast<float>(spec.max_code());
  double total = 0;
  for (const std::span<const float> row : rows) {
    double sum = 0;
    for (const float x : row) {
      const float code = std::min(std::max(round_half_even(x / qp.scale) + zero, low), high);
      const double d = static_cast<double>((code - zero) * qp.scale) - static_cast<double>(x);
      sum += d * d;
    }
    total += sum;
    if (total > limit) break;
  }
  return total;
}

}  // namespace

Range min_max_range(TokenRows rows) {
  Range r{std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};
  for (const std::span<const float> row : rows)
    for (const float x : row) r = {std::min(r.min, x), std::max(r.max, x)};
  return r;
}

Range quantile_range(TokenRows rows, double quantile, int bins) {
  const Range all = min_max_range(rows);
  const float most = std::max(-all.min, all.max);
  if (!(most > 0)) return all;
  std::vector<std::int64_t> counts(static_cast<std::size_t>(bins));
  std::int64_t total = 0;
  for (const std::span<const float> row : rows) {
    total += static_cast<std::int64_t>(row.size());
    for (const float x : row) {
      const auto bin = static_cast<std::int64_t>(std::fabs(x) / most * static_cast<float>(bins));
      ++counts[static_cast<std::size_t>(std::min<std::int64_t>(bin, bins - 1))];
    }
  }
  std::int64_t seen = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    seen += counts[i];
    if (static_cast<double>(seen) < quantile * static_cast<double>(total)) continue;
    const auto c =
        static_cast<float>((static_cast<double>(i) + 0.5) * (static_cast<double>(most) / bins));
    return {std::max(all.min, -c), std::min(all.max, c)};
  }
  return all;
}

Range mse_range(TokenRows rows, const QuantSpec& spec) {
  constexpr int kSteps = 100;
  const Range all = min_max_range(rows);
  const float most = std::max(std::fabs(all.min), all.max);
  Range best = all;
  double least = std::numeric_limits<double>::infinity();
  const auto consider = [&](Range r) {
    if (const double error = squared_error(rows, r, spec, least); error < least) {
      least = error;
      best = r;
    }
  };
  const bool one_sided = all.min >= 0 || all.max <= 0;
  for (int i = 1; i <= kSteps; ++i) {
    if (spec.symmetric || one_sided) {
      const float r = most / kSteps * static_cast<float>(i);
      consider({all.min >= 0 && !spec.symmetric ? 0 : -r, all.max <= 0 && !spec.symmetric ? 0 : r});
      continue;
    }
    const float r = (all.max - all.min) / kSteps * static_cast<float>(i),
                step = r / static_cast<float>(spec.max_code());
    for (int zero = 0; zero <= spec.max_code(); ++zero) {
      const float low = -static_cast<float>(zero) * step;
      consider({std::max(low, all.min), std::min(r + low, all.max)});
    }
  }
  return best;
}

Range fast_mse_range(TokenRows rows, const QuantSpec& spec) {
  constexpr double kSmallest = 0.1,
                   kShare = 0.01;  // the narrowest range tried: a share of all, at most 0.1
  const Range all = min_max_range(rows);
  const auto low = static_cast<double>(all.min), high = static_cast<double>(all.max);
  const auto error = [&](Range r) {
    return squared_error(rows, r, spec, std::numeric_limits<double>::infinity());
  };
  const double most = std::max(std::fabs(low), high);
  if (!(most > 0)) return all;
  if (spec.symmetric || all.min >= 0 || all.max <= 0) {
    const auto range = [&](double r) {
      const bool below = spec.symmetric || all.max <= 0, above = spec.symmetric || all.min >= 0;
      return Range{below ? static_cast<float>(-r) : 0.0F, above ? static_cast<float>(r) : 0.0F};
    };
    return range(minimize_bounded([&](double r) { return error(range(r)); },
                                  std::min(kSmallest, kShare * most), most));
  }
  const auto range = [&](double width, double shift) {
    return Range{static_cast<float>(std::max(-shift, low)),
                 static_cast<float>(std::min(width - shift, high))};
  };
  const auto best_shift = [&](double width) {
    const double step = width / (spec.max_code() - spec.min_code());
    return minimize_bounded([&](double shift) { return error(range(width, shift)); },
                            step * spec.min_code(), step * spec.max_code());
  };
  const double width = minimize_bounded([&](double w) { return error(range(w, best_shift(w))); },
                                        std::min(kSmallest, kShare * (high - low)), high - low);
  return range(width, best_shift(width));
}

}  // namespace quell
