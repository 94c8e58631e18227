// Linears and convolutions behind one call: float, fake-quantized and packed-integer ones look the
// same to the forward pass.
#pragma once

#include <span>
#include <string>

#include "quell/base/exec_context.h"
#include "quell/kernels/gemm_bf16/gemm_bf16.h"
#include "quell/tensor/tensor.h"

namespace quell {

/// y = f(x), rows of y being made of rows of x; immutable, may be called from one job at a time.
class LinearOp {
 public:
  virtual ~LinearOp() = default;
  /// x: f32 [M, K], y: f32 [out_rows(M), N].
  virtual void forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const = 0;
  /// As many, but of convolutions.
  virtual std::int64_t out_rows(std::int64_t rows) const { return rows; }
  /// One line for people: kernel, ISA and why it was chosen.
  virtual std::string describe() const = 0;
};

/// y = x * w^T + bias in f32. Borrows both; `bias` may be undefined.
class FloatLinear final : public LinearOp {
 public:
  FloatLinear(TensorView weight, TensorView bias)
      : weight_(std::move(weight)), bias_(std::move(bias)) {}
  void forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const override;
  std::string describe() const override;

 private:
  TensorView weight_, bias_;
};

/// The same with the weight rounded to bf16 and kept so: half the memory, f32 arithmetic; with AMX
/// the activations are rounded too. Borrows the bias.
class Bf16Linear final : public LinearOp {
 public:
  Bf16Linear(const TensorView& weight, TensorView bias);
  void forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const override;
  std::string describe() const override;

 private:
  kernels::Bf16Weights weight_;
  TensorView bias_;
};

/// y[M,N] = x[M,K] * w[N,K]^T (+ bias[N] when it has elements), f32, threaded over blocks that
/// depend on M and N alone.
void matmul_nt(const TensorView& x, const TensorView& w, const TensorView& bias, TensorSpan y,
               ExecContext& ctx);

/// The columns of a matrix as rows.
Tensor transposed(const TensorView& m);

/// bias += w * x, summed in double and rounded once: what a linear's bias becomes when x is taken
/// out of its input.
void add_product(const TensorView& w, std::span<const float> x, std::span<float> bias);

}  // namespace quell
