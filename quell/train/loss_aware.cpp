#include "quell/train/loss_aware.h"

#include <ATen/Dispatch.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <type_traits>

#include "quell/train/quantizer_math.h"

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
  static constexpr std::int64_t kLanes = 4;
  std::array<double, kLanes> weighted{};
  std::array<double, kLanes> count{};

  double quotient() const {
    const double total = std::accumulate(count.begin(), count.end(), 0.0);
    const double sum = std::accumulate(weighted.begin(), weighted.end(), 0.0);
    return total > 0 ? sum / total : 0;
  }
};

/// The scale after all alternations. Plain loops: composed of tensor operations this takes half as
/// long as the product that the weight is for.
template <typename Real>
Real row_scale(const Real* w, const Real* metric, std::int64_t count, int bits, int alternations) {
  const auto n = static_cast<Real>(largest_code(bits));
  const auto sum_up = [&](auto code_of) {
    Sums sums;
    for (std::int64_t i = 0; i < count; ++i) {
      const auto lane = static_cast<std::size_t>(i % Sums::kLanes);
      const Real magnitude = std::abs(w[i]);
      const double counts = code_of(magnitude) * (metric != nullptr ? double{metric[i]} : 1.0);
      sums.weighted[lane] += counts * magnitude;
      sums.count[lane] += counts;
    }
    return static_cast<Real>(sums.quotient());
  };

  // The mean magnitude is the formula's scale for codes that are all 1.
  Real scale = sum_up([](Real) { return Real{1}; });
  for (int i = 0; i < alternations && scale > 0; ++i) {
    const Real before = scale;
    scale = sum_up([&](Real m) { return rounded(std::min(m / before, Real{1}) * n); });
  }
  return scale;
}

}  // namespace

torch::Tensor loss_metric(const TrainingStep& step) {
  if (!step.second_moment.defined()) return {};
  // Weights without a gradient so far count a little, so that a row of them has a scale.
  return step.second_moment.detach().sqrt() + 1e-12;
}

ScaledCodes alternate(const torch::Tensor& w, const torch::Tensor& metric, int bits,
                      int alternations) {
  const torch::NoGradGuard guard;
  const torch::Tensor weights = w.contiguous();
  const torch::Tensor counts = metric.defined() ? metric.contiguous() : metric;
  torch::Tensor scale = torch::empty({w.size(0), 1}, w.options());
  AT_DISPATCH_FLOATING_TYPES(w.scalar_type(), "alternate", [&] {
    const auto* row = weights.data_ptr<scalar_t>();
    const auto* d = counts.defined() ? counts.data_ptr<scalar_t>() : nullptr;
    for (std::int64_t r = 0; r < w.size(0); ++r) {
      scale.data_ptr<scalar_t>()[r] = row_scale(row, d, w.size(1), bits, alternations);
      row += w.size(1);
      if (d != nullptr) d += w.size(1);
    }
  });
  const double n = largest_code(bits);
  return {torch::round(divide_or_zero(weights, scale).clamp_(-1, 1).mul_(n)).div_(n), scale};
}

ScaledCodes best_ternary(const torch::Tensor& w, const torch::Tensor& metric) {
  const torch::NoGradGuard guard;

  // For any scale the best codes are 0 below half of it: the selected weights are the largest
  // magnitudes, whatever the metric. With k of them the error is a constant less (sum of D |w|)^2 /
  // (sum of D).
  const auto [magnitude, order] = w.abs().sort(/*stable=*/true, /*dim=*/1, /*descending=*/true);
  const torch::Tensor d = metric.defined() ? metric.gather(1, order) : torch::ones_like(magnitude);
  const torch::Tensor total = (d * magnitude).cumsum(1);
  const torch::Tensor weight = d.cumsum(1);
  const torch::Tensor last = divide_or_zero(total.square(), weight).argmax(1, true);

  const torch::Tensor scale = divide_or_zero(total.gather(1, last), weight.gather(1, last));
  const torch::Tensor threshold = magnitude.gather(1, last);
  const torch::Tensor selected = (w.abs() >= threshold).to(w.dtype());
  return {w.sign() * selected, scale};
}

}  // namespace quell::train
