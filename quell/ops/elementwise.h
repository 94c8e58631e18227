// Row-wise and element-wise f32 operations: norms, activations, sums, gathers.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "quell/base/exec_context.h"
#include "quell/kernels/simd/epilogue_types.h"
#include "quell/tensor/tensor.h"

namespace quell {

enum class ActivationKind {
  kRelu,
  kGelu,
  kGeluTanh,
  kSilu,
  kTanh,
  kRelu6,      ///< min(max(x, 0), 6)
  kHardSwish,  ///< x * relu6(x + 3) / 6
  kHardTanh,   ///< min(max(x, -1), 1)
  kSigmoid,
  kSign,   ///< -1, 0 or 1
  kRelu2,  ///< max(x, 0)^2
};
/// From the names in config.json (`gelu`, `gelu_new`, `gelu_pytorch_tanh`, `silu`, ...).
std::optional<ActivationKind> activation_from_name(std::string_view name);
std::string_view activation_name(ActivationKind kind);
/// What kernels call it; nothing where they do not have it.
std::optional<kernels::Activation> fused_activation(ActivationKind kind);

enum class NormKind { kLayerNorm, kRmsNorm };

/// y[t,:] = norm(x[t,:]) * weight + bias; weight and bias [C] may be undefined. Statistics in
/// double, elements in f32.
void normalize(NormKind kind, const TensorView& x, const TensorView& weight, const TensorView& bias,
               double eps, TensorSpan y, ExecContext& ctx);
void activate(ActivationKind kind, const TensorView& x, TensorSpan y, ExecContext& ctx);
/// d activate(x) / dx.
double activation_derivative(ActivationKind kind, double x);
void add(const TensorView& a, const TensorView& b, TensorSpan y, ExecContext& ctx);
void multiply(const TensorView& a, const TensorView& b, TensorSpan y, ExecContext& ctx);
/// Throws Error(kInvalidInput) on an id outside a table of `rows` rows, `what` being what ids are
/// of.
void check_row_ids(std::span<const std::int32_t> ids, std::int64_t rows, std::string_view what);
/// y[t,:] = table[ids[t],:]. Throws Error(kInvalidInput) on an id outside the table.
void gather_rows(const TensorView& table, std::span<const std::int32_t> ids, std::string_view what,
                 TensorSpan y);
/// y[t,j] = x[t,j] * scale[j] + shift[j]; `shift` may be undefined.
void affine_columns(const TensorView& x, const TensorView& scale, const TensorView& shift,
                    TensorSpan y, ExecContext& ctx);
/// y[t,j] = (x[t,j] - shift[j]) / scale[j]; `shift` may be undefined.
void inverse_affine_columns(const TensorView& x, const TensorView& scale, const TensorView& shift,
                            TensorSpan y, ExecContext& ctx);
/// To the nearest f16 or bf16; any other type leaves x alone.
void round_values(DType type, TensorSpan x, ExecContext& ctx);

}  // namespace quell
