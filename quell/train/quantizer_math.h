// What the training quantizers have in common.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <optional>
#include <string>

#include "quell/io/method_params.h"
#include "quell/train/fake_quantizer.h"

namespace quell::train {

/// `value`, exactly, in the forward pass; backward the gradient goes to `x`, multiplied by `mask`
/// where one is given. `value` itself gets none.
torch::Tensor straight_through(const torch::Tensor& x, const torch::Tensor& value,
                               const torch::Tensor& mask = {});

/// a / b, and 0 where b is 0 (rows without anything in them), with gradients 0.
torch::Tensor divide_or_zero(const torch::Tensor& a, const torch::Tensor& b);
/// The same, written into `a`.
torch::Tensor divide_or_zero_(torch::Tensor a, const torch::Tensor& b);
/// Round half away from zero; torch::round rounds half to even.
torch::Tensor round_half_away(const torch::Tensor& x);
/// Largest code of restricted symmetric codes: 2^(bits-1) - 1.
double largest_code(int bits);

/// `clip: none`, or a positive number.
std::optional<double> read_clip(const MethodParams& params, std::optional<double> fallback);
/// 1 where -clip < x < clip, both bounds excluded (torch::clamp passes gradients at its bounds);
/// undefined without a clip.
torch::Tensor inside_clip(const torch::Tensor& x, std::optional<double> clip);
torch::Tensor apply_clip(const torch::Tensor& x, std::optional<double> clip);

/// A learned parameter that starts at `value`.
torch::Tensor learned(const torch::Tensor& value);
/// Throws Error(kNumeric) unless all of a learned step or scale is above 0.
void require_positive(const torch::Tensor& learned, const std::string& what);
/// Throws Error(kInvalidInput) when `initialize` was not called.
void require_initialized(const torch::Tensor& learned, const std::string& what);

/// Codes without zero points; `codes` are whole numbers of any dtype.
WeightCodes symmetric_codes(const torch::Tensor& codes, const torch::Tensor& steps);

/// For each row of `groups` the scale with the least squared error of `quantize(scale)`, which
/// returns all rows quantized with one scale each, [rows, 1]. Looks between 1/20 of the mean
/// magnitude and the largest magnitude of each row, on a grid of equal ratios that is then refined
/// twice: a relative error below 0.1 %.
torch::Tensor least_error_scale(
    const torch::Tensor& groups,
    const std::function<torch::Tensor(const torch::Tensor& scale)>& quantize);

/// Codes 0..2^bits - 1 of the range of each group: step = max((max - min) / (2^bits - 1), 1e-5 /
/// (2^bits - 1)), zero = clamp(-round(min / step)). Differentiable in the range where `groups` is.
struct RangeSteps {
  torch::Tensor step;
  torch::Tensor zero;  ///< a constant for the gradient
};
RangeSteps range_steps(const torch::Tensor& groups, int bits);

}  // namespace quell::train
