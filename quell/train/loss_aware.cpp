#include "quell/train/loss_aware.h"

#include <ATen/Dispatch.h>

#include "quell/train/alternation.h"
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
  const torch::Tensor weights = w.contiguous();
  const torch::Tensor counts = metric.defined() ? metric.contiguous() : metric;
  torch::Tensor scale = torch::empty({w.size(0), 1}, w.options());
  AT_DISPATCH_FLOATING_TYPES(w.scalar_type(), "alternate", [&] {
    const auto* row = weights.data_ptr<scalar_t>();
    const auto* d = counts.defined() ? counts.data_ptr<scalar_t>() : nullptr;
    for (std::int64_t r = 0; r < w.size(0); ++r) {
      scale.data_ptr<scalar_t>()[r] = alternated_scale(row, d, w.size(1), bits, alternations);
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
  const torch::Tensor total = (d * magnitude).cumsum(1, torch::kFloat64);
  const torch::Tensor weight = d.cumsum(1, torch::kFloat64);
  const torch::Tensor last = divide_or_zero(total.square(), weight).argmax(1, true);

  const torch::Tensor scale =
      divide_or_zero(total.gather(1, last), weight.gather(1, last)).to(w.dtype());
  const torch::Tensor threshold = magnitude.gather(1, last);
  const torch::Tensor selected = (w.abs() >= threshold).to(w.dtype());
  return {w.sign() * selected, scale};
}

}  // namespace quell::train
