#include "quell/train/torch_forward.h"

#include "quell/base/error.h"

namespace quell::train {

Tensor to_tensor(const torch::Tensor& values) {
  const torch::Tensor dense = values.detach().to(torch::kFloat32).contiguous();
  const std::int64_t columns = dense.dim() > 1 ? dense.size(-1) : 1;
  const auto count = static_cast<std::size_t>(dense.numel());
  return Tensor::from<float>({dense.data_ptr<float>(), count}, {dense.numel() / columns, columns});
}

void TorchForward::forward(const TokenBatch& batch, ForwardOutputs& outputs,
                           ExecContext& /*ctx*/) const {
  require(!outputs.want_hidden_states && !outputs.cached && !outputs.last_tokens_only,
          ErrorCode::kUnsupported, "a model in training gives no hidden states, and has no cache");
  const torch::NoGradGuard guard;
  outputs.values.clear();
  for (const auto& [name, values] : model_.forward(batch).values)
    outputs.values[name] = to_tensor(values);
}

}  // namespace quell::train
