// Quantize, dequantize and fake-quantize. Two forms of the same rule: calibration and search
// divide, rne(x / s) + z, as the reference does; both execution engines multiply, rne(x * (1/s)) +
// z. They differ on ties only, and where ties are the rule (divides_at_run_time) the engines divide
// too.
#pragma once

#include "quell/base/exec_context.h"
#include "quell/quant/quant_spec.h"

namespace quell {

/// Smallest and largest element. Throws Error(kNumeric) naming `what` when one is NaN or infinite.
Range range_of(std::span<const float> values, std::string_view what);

/// out = dequantize(quantize(in)) with one step; in and out may be the same.
void fake_quantize(std::span<const float> in, const StepAndZero& qparams, const QuantSpec& spec,
                   Rounding rounding, std::span<float> out);

/// Matrix x[T,C] with static parameters, of groups of channels where there are any, or, for a
/// dynamic spec, fresh ones per tensor, token or group.
void fake_quantize_activations(const TensorView& x, const ActivationQuant& quant, Rounding rounding,
                               TensorSpan y, ExecContext& ctx);

/// Number of quantization groups of w[N,K]: 1, N or N*K/group_size; elements of a group are
/// consecutive.
std::int64_t num_groups(const TensorView& w, const QuantSpec& spec);

/// Smallest and largest element: MinMax.
Range minmax_range(std::span<const float> values);
/// Mean -/+ 3 standard deviations (unbiased): how LSQ+ (Bhalgat et al., 2020) starts weights.
Range three_sigma_range(std::span<const float> values);

/// Parameters of the range of each group of w, and its codes (division).
QTensor quantize_weight(const TensorView& w, const QuantSpec& spec,
                        Range (*range)(std::span<const float>) = minmax_range);

/// The same with ranges that minimise sum over k of importance[k] (w - w_q)^2 in each group: of
/// those that reach a share 1, 0.98,
/// ..., 0.2 of the smallest and largest weight, the widest of equals. importance: [K], not
/// negative; the mean squares of the inputs make it the expected error of the outputs, were the
/// inputs not correlated.
QTensor quantize_weight(const TensorView& w, const QuantSpec& spec,
                        std::span<const float> importance, ExecContext& ctx);

/// Divides the steps of row i by divisor[i], codes untouched: the 1/s that OS+ moves from
/// down_proj's input into up_proj. Throws Error(kUnsupported) for one step a tensor.
void divide_row_steps(QTensor& q, std::span<const float> divisor);

/// The value of a code.
inline float dequantize_code(std::int32_t code, const StepAndZero& qparams) {
  return static_cast<float>(code - qparams.zero_point) * qparams.scale;
}
/// f32 [N,K].
Tensor dequantize(const QTensor& q);

/// dequantize(quantize(w)) with fresh MinMax parameters, without keeping codes (the search's inner
/// step).
void fake_quantize_weight(const TensorView& w, const QuantSpec& spec, TensorSpan out,
                          ExecContext& ctx);

/// x = dequantize(quantize(x)) as a model of f16 or bf16 tensors computes it: each result is
/// rounded to `arithmetic`. Groups are those of `spec`, with fresh MinMax parameters unless one
/// `step` is given.
void fake_quantize_rounded(const QuantSpec& spec, const StepAndZero* step, DType arithmetic,
                           Tensor& x, ExecContext& ctx);

}  // namespace quell
