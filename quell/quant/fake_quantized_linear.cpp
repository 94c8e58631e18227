#include "quell/ops/convolution.h"
#include "quell/quant/quantize.h"
#include "quell/quant/quantized_linear.h"

namespace quell {
namespace {

/// The same convolution with what lies around the image in codes and back.
std::shared_ptr<const ConvGeometry> with_quantized_padding(
    std::shared_ptr<const ConvGeometry> geometry, const ActivationQuant& input, Rounding rounding) {
  if (!geometry || geometry->padding.empty()) return geometry;
  ConvGeometry quantized = *geometry;
  const auto channels = static_cast<std::int64_t>(quantized.padding.size());
  ExecContext ctx(1);
  const TensorView from(geometry->padding.data(), DType::kF32, {1, channels});
  fake_quantize_activations(from, input, rounding,
                            TensorSpan(quantized.padding.data(), DType::kF32, {1, channels}), ctx);
  return std::make_shared<const ConvGeometry>(std::move(quantized));
}

class FakeQuantizedProduct final : public LinearOp {
 public:
  FakeQuantizedProduct(const QTensor& weight, const TensorView& bias, const ActivationQuant& input,
                       Rounding rounding, std::shared_ptr<const ConvGeometry> geometry)
      : own_weight_(dequantize(weight)),
        own_bias_(Tensor::copy_of(bias)),
        weight_(own_weight_),
        bias_(own_bias_),
        input_(input),
        rounding_(rounding),
        geometry_(with_quantized_padding(std::move(geometry), input, rounding)) {}
  FakeQuantizedProduct(const TensorView& weight, const TensorView& bias,
                       const ActivationQuant& input, Rounding rounding,
                       std::shared_ptr<const ConvGeometry> geometry)
      : weight_(weight),
        bias_(bias),
        input_(input),
        rounding_(rounding),
        geometry_(with_quantized_padding(std::move(geometry), input, rounding)) {}

  void forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const override {
    Tensor quantized = Tensor::uninitialized(DType::kF32, x.shape());
    fake_quantize_activations(x, input_, rounding_, quantized.span(), ctx);
    compute_product(quantized, weight_, bias_, geometry_.get(), y, ctx);
  }
  std::int64_t out_rows(std::int64_t rows) const override {
    return geometry_ ? geometry_->out_rows(rows) : rows;
  }
  std::string describe() const override { return "f32 simulation of quantized codes"; }

 private:
  Tensor own_weight_, own_bias_;
  TensorView weight_, bias_;
  ActivationQuant input_;
  Rounding rounding_;
  std::shared_ptr<const ConvGeometry> geometry_;  ///< null: a linear
};

}  // namespace

std::unique_ptr<LinearOp> make_fake_quantized_product(
    const QTensor& weight, const TensorView& bias, const ActivationQuant& input, Rounding rounding,
    std::shared_ptr<const ConvGeometry> geometry) {
  return std::make_unique<FakeQuantizedProduct>(weight, bias, input, rounding, std::move(geometry));
}

std::unique_ptr<LinearOp> make_fake_quantized_product(
    const TensorView& weight, const TensorView& bias, const ActivationQuant& input,
    Rounding rounding, std::shared_ptr<const ConvGeometry> geometry) {
  return std::make_unique<FakeQuantizedProduct>(weight, bias, input, rounding, std::move(geometry));
}

}  // namespace quell
