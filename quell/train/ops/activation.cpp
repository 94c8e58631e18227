// An activation function, element by element.
#include "quell/train/torch_op.h"

namespace quell::train {
namespace {

torch::Tensor activated(ActivationKind kind, const torch::Tensor& x) {
  switch (kind) {
    case ActivationKind::kRelu: return torch::relu(x);
    case ActivationKind::kGelu: return torch::gelu(x);
    case ActivationKind::kGeluTanh: return torch::gelu(x, "tanh");
    case ActivationKind::kSilu: return torch::silu(x);
    case ActivationKind::kTanh: return torch::tanh(x);
    case ActivationKind::kRelu6: return torch::hardtanh(x, 0, 6);
    case ActivationKind::kHardSwish: return torch::hardswish(x);
    case ActivationKind::kHardTanh: return torch::hardtanh(x);
    case ActivationKind::kSigmoid: return torch::sigmoid(x);
    case ActivationKind::kSign: return torch::sign(x);
    case ActivationKind::kRelu2: return torch::square(torch::relu(x));
  }
  return {};
}

}  // namespace

extern const TorchOp k_activation;
const TorchOp k_activation = {&op_activation, [](TorchCall& call) -> torch::Tensor {
                                return activated(activation_of(call.node()), call.in(0));
                              }};

}  // namespace quell::train
