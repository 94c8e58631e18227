#include "quell/quant/learned_step.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>

namespace quell {

void fake_quantize_backward(std::span<const float> x, const StepAndZero& qparams, const QuantSpec& spec, std::span<float> gradient,
                            StepGradient& out) {
  assert(x.size() == gradient.size());
  const auto low = static_cast<float>(spec.min_code()), high = static_cast<float>(spec.max_code()),
             zero = static_cast<float>(qparams.zero_point);
  double scale = 0, zero_point = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float v = x[i] / qparams.scale, rounded = std::nearbyint(v), code = rounded + zero;
    if (code > low && code < high) {
      scale += static_cast<double>(gradient[i]) * static_cast<double>(rounded - v);
      continue;
    }
    scale += static_cast<double>(gradient[i]) * static_cast<double>(std::clamp(code, low, high) - zero);
    zero_point -= static_cast<double>(gradient[i]) * static_cast<double>(qparams.scale);
    gradient[i] = 0.0F;
  }
  out.scale += scale;
  out.zero_point += zero_point;
}

double step_gradient_factor(std::int64_t numel, const QuantSpec& spec) {
  return 1.0 / std::sqrt(static_cast<double>(numel) * static_cast<double>(spec.max_code()));
}

CosineAdam::CosineAdam(std::size_t parameters, double learning_rate, std::int64_t steps)
    : learning_rate_(learning_rate), steps_(steps), mean_(parameters), square_(parameters) {}

void CosineAdam::step(std::span<const double> gradients, std::span<float> parameters) {
  constexpr double kMean = 0.9, kSquare = 0.999, kEpsilon = 1e-8;
  if (done_ >= steps_) return;
  const double rate =
      learning_rate_ * (1 + std::cos(std::numbers::pi * static_cast<double>(done_) / static_cast<double>(steps_))) / 2;
  ++done_;
  const double mean_bias = 1 - std::pow(kMean, static_cast<double>(done_)),
               square_bias = 1 - std::pow(kSquare, static_cast<double>(done_));
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    mean_[i] = kMean * mean_[i] + (1 - kMean) * gradients[i];
    square_[i] = kSquare * square_[i] + (1 - kSquare) * gradients[i] * gradients[i];
    const double change = rate * (mean_[i] / mean_bias) / (std::sqrt(square_[i] / square_bias) + kEpsilon);
    parameters[i] = static_cast<float>(static_cast<double>(parameters[i]) - change);
  }
}

}  // namespace quell
