// Quantized linears: simulated in f32, simulated with exact sums, and packed integers.
#pragma once

#include <memory>

#include "quell/kernels/gemm_s8/gemm_s8.h"
#include "quell/ops/convolution.h"
#include "quell/quant/quantized_rows.h"

namespace quell {

/// Groups along k are multiples of it: what the integer kernels with the finest steps take.
inline constexpr std::int64_t kIntegerGroupUnit = 8;

/// y = fake_quantize(x) * dequantize(w)^T + bias in f32, or the convolution of both where there is
/// a geometry: what papers call quantization.
std::unique_ptr<LinearOp> make_fake_quantized_product(const QTensor& weight, const TensorView& bias,
                                                      const ActivationQuant& input,
                                                      Rounding rounding,
                                                      std::shared_ptr<const ConvGeometry> geometry);

/// The same of any f32 weight. Borrows weight and bias.
std::unique_ptr<LinearOp> make_fake_quantized_product(const TensorView& weight,
                                                      const TensorView& bias,
                                                      const ActivationQuant& input,
                                                      Rounding rounding,
                                                      std::shared_ptr<const ConvGeometry> geometry);

/// Where an integer linear writes: f32 [M, N], or the codes of the next operator (static
/// quantizers). What is fused in front of it.
struct LinearOutput {
  kernels::Activation activation = kernels::Activation::kNone;
  kernels::ResidualArgs residual;
  float* f32 = nullptr;
  QuantizedRows* codes = nullptr;
  /// Codes are those of (y - shift[j]) / scale[j]: what no producer could absorb. Null: of y.
  const float *code_scale = nullptr, *code_shift = nullptr;
  /// Narrower bounds of the codes: a ReLU or ReLU6 behind everything else. Stored codes.
  std::int32_t code_low = 0, code_high = 255;
};

/// Tells an epilogue of `columns` columns what follows the sums, and where results go.
void set_output(const LinearOutput& output, std::int64_t columns, kernels::Epilogue& e);

/// A product on codes: what lowering makes of linears and convolutions.
class IntegerProduct : public LinearOp {
 public:
  virtual const ActivationQuant& input() const = 0;
  /// Whether forward_rows needs the sums of the rows.
  virtual bool needs_sums() const = 0;
  virtual std::int64_t columns() const = 0;  ///< of the output
  virtual std::size_t packed_bytes() const = 0;
  virtual void forward_rows(const QuantizedRows& x, const LinearOutput& output,
                            ExecContext& ctx) const = 0;
};

struct IntegerLinearOptions {
  Isa isa = Isa::kPortable;
  bool exact_simulation = false;  ///< plain loops instead of the ISA's kernel: same bytes, slow
  /// Weights of 2 and of 4 bits stay packed, four and two to a byte, where memory and not
  /// arithmetic is the limit.
  bool pack_weights = true;
};

/// y = s_x s_w[j] (acc + c[j]) + b[j] with acc the exact sum of code products (docs/numerics.md),
/// and whatever LinearOutput adds. Input static per tensor or group of channels, or dynamic per
/// token or group; weight per tensor, channel or group (with groups, exact sums of groups are added
/// up in f32). Immutable.
class IntegerLinear final : public IntegerProduct {
 public:
  /// Throws Error(kUnsupported) with the reason where integers cannot hold the scheme (groups of
  /// odd sizes, too many columns).
  IntegerLinear(const QTensor& weight, const TensorView& bias, const ActivationQuant& input,
                const IntegerLinearOptions& options);
  /// act(gate) * up in one product: 16 columns of each side by side. `columns` of the output stay
  /// those of one side, rounded up to 16.
  static std::unique_ptr<IntegerLinear> gated(const QTensor& gate, const TensorView& gate_bias,
                                              const QTensor& up, const TensorView& up_bias,
                                              const ActivationQuant& input,
                                              const IntegerLinearOptions& options);

  void forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const override;
  void forward_rows(const QuantizedRows& x, const LinearOutput& output,
                    ExecContext& ctx) const override;
  std::string describe() const override;

  std::size_t packed_bytes() const override {
    return packed_.data.size() +
           sizeof(float) * (packed_.group_scale.size() + packed_.group_zero.size());
  }
  const ActivationQuant& input() const override { return input_; }
  bool needs_sums() const override { return asymmetric_weight_ && packed_.group_size == 0; }
  std::int64_t columns() const override { return gated_ ? packed_.n / 2 : packed_.n; }

 private:
  struct Columns;  // codes, steps, zero points and biases by output column, in packing order
  IntegerLinear(const Columns& columns, const ActivationQuant& input, bool gated,
                const IntegerLinearOptions& options);
  static Columns columns_of(const QTensor& weight, const TensorView& bias,
                            const ActivationQuant& input);
  void pack_groups(const Columns& columns);

  ActivationQuant input_;
  bool gated_ = false, exact_ = false, asymmetric_weight_ = false;
  kernels::PackedWeights packed_;
  const kernels::GemmS8Kernel* kernel_ = nullptr;
  // [padded_n]
  std::vector<float> scale_, bias_;  ///< scale_ holds s_x * s_w where the input is static
  std::vector<float>
      group_offset_;  ///< weights in groups: -z_x (or -1) times the sums of the dequantized rows
  std::vector<std::int32_t> offset_,
      weight_zero_;  ///< -z_x * row sums where static, else -row sums; zero points of asymmetric
                     ///< weights
};

/// The linear, or the convolution where there is a geometry. Throws Error(kUnsupported) with the
/// reason where integers cannot hold the scheme.
std::unique_ptr<IntegerProduct> make_integer_product(const QTensor& weight, const TensorView& bias,
                                                     const ActivationQuant& input,
                                                     std::shared_ptr<const ConvGeometry> geometry,
                                                     const IntegerLinearOptions& options);

/// What zero points of `x` and of the weights add to the sums of one product: `offset` [N] holds
/// -z_x (static) or -1 (dynamic) times the row sums of the weight codes; `weight_zero` [N] is null
/// where all are 0, else `x.sum` is needed. `row_term` must outlive `e`.
void set_zero_point_terms(const QuantizedRows& x, std::int64_t k, const std::int32_t* offset,
                          const std::int32_t* weight_zero, std::vector<std::int32_t>& row_term,
                          kernels::Epilogue& e);

/// One product over rows of codes, split into blocks over rows and panels that depend on the sizes
/// alone.
void run_gemm(const kernels::GemmS8Kernel& kernel, const QuantizedRows& x,
              const kernels::PackedWeights& w, const kernels::Epilogue& epilogue, ExecContext& ctx);

/// [rows, N] as [panels, rows, 32], with zeros past N: in the order in which products are compared
/// with it.
Tensor pack_target(const TensorView& y, ExecContext& ctx);
/// Sums of (y - target)^2 by row, y being what `epilogue` (without activation, gate and residual)
/// would write; nothing is written. target: of pack_target; scale and bias of columns past N are 0.
/// The same bytes for all kernels and any number of threads. No weights in groups.
std::vector<double> gemm_squared_errors(const kernels::GemmS8Kernel& kernel, const QuantizedRows& x,
                                        const kernels::PackedWeights& w,
                                        const kernels::Epilogue& epilogue, const TensorView& target,
                                        ExecContext& ctx);

}  // namespace quell
