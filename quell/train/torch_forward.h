// A model in training behind the interface of the engines, so that tasks measure it as they measure
// them.
#pragma once

#include "quell/engine/forward.h"
#include "quell/train/torch_model.h"

namespace quell::train {

/// Without gradients, dropout and hidden states; padded batches. Refers to `model`.
class TorchForward final : public ForwardModel {
 public:
  explicit TorchForward(const TorchModel& model) : model_(model) {}

  void forward(const TokenBatch& batch, ForwardOutputs& outputs, ExecContext& ctx) const override;
  const Model& model() const override { return model_.model(); }

 private:
  const TorchModel& model_;
};

/// Floats as an engine holds them: rows of the last dimension, or of one where there is no other.
Tensor to_tensor(const torch::Tensor& values);

}  // namespace quell::train
