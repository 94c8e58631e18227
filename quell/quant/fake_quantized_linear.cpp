#include "quell/base/error.h"
#include "quell/quant/quantize.h"
#include "quell/quant/quantized_linear.h"

namespace quell {
namespace {

class FakeQuantizedLinear final : public LinearOp {
 public:
  FakeQuantizedLinear(const QTensor& weight, const TensorView& bias, const ActivationQuant& input,
                      Rounding rounding)
      : own_weight_(dequantize(weight)),
        own_bias_(Tensor::copy_of(bias)),
        weight_(own_weight_),
        bias_(own_bias_),
        input_(input),
        rounding_(rounding) {}
  FakeQuantizedLinear(const TensorView& weight, const TensorView& bias,
                      const ActivationQuant& input, Rounding rounding)
      : weight_(weight), bias_(bias), input_(input), rounding_(rounding) {}

  void forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const override {
    Tensor quantized = Tensor::f32(x.shape());
    fake_quantize_activations(x, input_, rounding_, quantized.span(), ctx);
    matmul_nt(quantized, weight_, bias_, y, ctx);
  }
  std::string describe() const override { return "f32 simulation of quantized codes"; }

 private:
  Tensor own_weight_, own_bias_;
  TensorView weight_, bias_;
  ActivationQuant input_;
  Rounding rounding_;
};

}  // namespace

std::unique_ptr<LinearOp> make_fake_quantized_linear(const QTensor& weight, const TensorView& bias,
                                                     const ActivationQuant& input,
                                                     Rounding rounding) {
  return std::make_unique<FakeQuantizedLinear>(weight, bias, input, rounding);
}

std::unique_ptr<LinearOp> make_fake_quantized_linear(const TensorView& weight,
                                                     const TensorView& bias,
                                                     const ActivationQuant& input,
                                                     Rounding rounding) {
  return std::make_unique<FakeQuantizedLinear>(weight, bias, input, rounding);
}

}  // namespace quell
