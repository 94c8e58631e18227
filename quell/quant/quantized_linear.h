// Quantized linears behind LinearOp: simulated in f32, simulated with exact sums, and packed integers.
#pragma once

#include <memory>

#include "quell/ops/linear.h"
#include "quell/quant/quant_spec.h"

namespace quell {

/// y = fake_quantize(x) * dequantize(w)^T + bias in f32: what papers call quantization.
std::unique_ptr<LinearOp> make_fake_quantized_linear(const QTensor& weight, const TensorView& bias, const ActivationQuant& input,
                                                     Rounding rounding);

/// y = s_x s_w[j] (acc + c[j]) + b[j] with acc the exact sum of code products (docs/numerics.md). Input static per tensor or
/// dynamic per token; weight per channel or per tensor. `exact_simulation` sums plain codes without packing or kernels: same bytes,
/// slow. Throws Error(kUnsupported) with the reason where integers cannot hold the scheme (groups, too many columns).
std::unique_ptr<LinearOp> make_integer_linear(const QTensor& weight, const TensorView& bias, const ActivationQuant& input, Isa isa,
                                              bool exact_simulation);

}  // namespace quell
