#include "quell/train/loss_aware.h"

#include "quell/train/quantizer_math.h"

namespace quell::train {

torch::Tensor loss_metric(const TrainingStep& step) {
  if (!step.second_moment.defined()) return {};
  // Weights without a gradient so far count a little, so that a row of them has a scale.
  return step.second_moment.detach().sqrt() + 1e-12;
}

ScaledCodes alternate(const torch::Tensor& w, const torch::Tensor& metric, int bits,
                      int alternations) {
  const torch::NoGradGuard guard;
  const double n = largest_code(bits);
  const auto project = [&](const torch::Tensor& scale) {
    return torch::round(divide_or_zero(w, scale).clamp(-1, 1) * n) / n;
  };
  const auto weighted = [&](const torch::Tensor& x) { return metric.defined() ? x * metric : x; };

  // The mean magnitude is the formula's scale for codes that are all 1.
  torch::Tensor scale = w.abs().mean(1, true);
  if (metric.defined()) scale = divide_or_zero(weighted(w.abs()).sum(1, true), metric.sum(1, true));
  torch::Tensor codes = project(scale);
  for (int i = 0; i < alternations; ++i) {
    const torch::Tensor q = codes.abs();
    scale = divide_or_zero(weighted((codes * w).abs()).sum(1, true), weighted(q).sum(1, true));
    codes = project(scale);
  }
  return {codes, scale};
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
