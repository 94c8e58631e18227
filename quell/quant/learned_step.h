// Steps and zero points that are learned (LSQ+, Bhalgat et al., CVPR-W 2020; the fine stage of
// Token-Wise Clipping): the gradient of fake quantization by hand.
#pragma once

#include <span>

#include "quell/quant/quant_spec.h"

namespace quell {

/// dL/dscale and dL/dzero_point.
struct StepGradient {
  double scale = 0, zero_point = 0;
  StepGradient& operator+=(const StepGradient& other) {
    scale += other.scale;
    zero_point += other.zero_point;
    return *this;
  }
};
inline StepGradient operator*(const StepGradient& a, double factor) {
  return {a.scale * factor, a.zero_point * factor};
}

/// y = dequantize(quantize(x)), straight through the rounding. `gradient` is dL/dy and becomes
/// dL/dx: 0 where the code was clipped. Adds to `out`, factor left out: inside, (rne(x / s) - x /
/// s) dL/dy to the scale; clipped to code q, (q - z) dL/dy to the scale and -s dL/dy to the zero
/// point. The two outermost codes count as clipped, as in the official code of Outlier Suppression
/// (LSQ's paper asks the value before rounding instead).
void fake_quantize_backward(std::span<const float> x, const StepAndZero& qparams,
                            const QuantSpec& spec, std::span<float> gradient, StepGradient& out);

/// What LSQ multiplies both gradients of a quantizer with that saw `numel` elements: 1 / sqrt(numel
/// * max_code).
double step_gradient_factor(std::int64_t numel, const QuantSpec& spec);

}  // namespace quell
