#include "quell/train/alternation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <type_traits>

namespace quell::train {
namespace {

/// Rounds half to even what is far smaller than the numbers whose last bit is 1.
template <typename Real>
Real rounded(Real x) {
  constexpr Real kMagic = std::is_same_v<Real, float> ? Real(0x1.8p23) : Real(0x1.8p52);
  return (x + kMagic) - kMagic;
}

/// Numerator and denominator of a scale. Several of them, so that additions need not wait for one
/// another.
struct Sums {
  static constexpr std::size_t kLanes = 8;
  std::array<double, kLanes> weighted{};
  std::array<double, kLanes> count{};

  double quotient() const {
    const double total = std::accumulate(count.begin(), count.end(), 0.0);
    const double sum = std::accumulate(weighted.begin(), weighted.end(), 0.0);
    return total > 0 ? sum / total : 0;
  }
};

template <bool kMetric, typename Real, typename Code>
Real quotient_of(const Real* w, const Real* metric, std::int64_t count, Code code_of) {
  Sums sums;
  const auto add = [&](std::int64_t i, std::size_t lane) {
    const Real magnitude = std::abs(w[i]);
    double counts = code_of(magnitude);
    if constexpr (kMetric) counts *= metric[i];
    sums.weighted[lane] += counts * magnitude;
    sums.count[lane] += counts;
  };

  constexpr auto kLanes = static_cast<std::int64_t>(Sums::kLanes);
  const std::int64_t whole = count - count % kLanes;
  for (std::int64_t i = 0; i < whole; i += kLanes)
    for (std::size_t lane = 0; lane < Sums::kLanes; ++lane)
      add(i + static_cast<std::int64_t>(lane), lane);
  for (std::int64_t i = whole; i < count; ++i) add(i, static_cast<std::size_t>(i - whole));
  return static_cast<Real>(sums.quotient());
}

template <bool kMetric, typename Real>
Real scale_of(const Real* w, const Real* metric, std::int64_t count, int bits, int alternations) {
  const auto n = static_cast<Real>((1 << (bits - 1)) - 1);
  Real scale = quotient_of<kMetric>(w, metric, count, [](Real) { return Real{1}; });
  for (int i = 0; i < alternations && scale > 0; ++i) {
    const Real before = scale;
    scale = quotient_of<kMetric>(w, metric, count, [before, n](Real magnitude) {
      return rounded(std::min(magnitude / before, Real{1}) * n);
    });
    if (scale == before) break;  // and so it would stay
  }
  return scale;
}

}  // namespace

template <typename Real>
Real alternated_scale(const Real* w, const Real* metric, std::int64_t count, int bits,
                      int alternations) {
  if (metric != nullptr) return scale_of<true>(w, metric, count, bits, alternations);
  return scale_of<false>(w, metric, count, bits, alternations);
}

template float alternated_scale(const float*, const float*, std::int64_t, int, int);
template double alternated_scale(const double*, const double*, std::int64_t, int, int);

}  // namespace quell::train
