#include "quell/quant/learned_step.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace quell {

void fake_quantize_backward(std::span<const float> x, const StepAndZero& qparams,
                            const QuantSpec& spec, std::span<float> gradient, StepGradient& out) {
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
    scale +=
        static_cast<double>(gradient[i]) * static_cast<double>(std::clamp(code, low, high) - zero);
    zero_point -= static_cast<double>(gradient[i]) * static_cast<double>(qparams.scale);
    gradient[i] = 0.0F;
  }
  out.scale += scale;
  out.zero_point += zero_point;
}

double step_gradient_factor(std::int64_t numel, const QuantSpec& spec) {
  return 1.0 / std::sqrt(static_cast<double>(numel) * static_cast<double>(spec.max_code()));
}

}  // namespace quell
