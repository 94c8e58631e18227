#include "quell/train/losses/hidden_states.h"

#include "quell/train/losses/layers.h"

namespace quell::train {

torch::Tensor layer_mse(const std::vector<torch::Tensor>& student,
                        const std::vector<torch::Tensor>& teacher) {
  return sum_over_layers(
      student, teacher, "values of layers",
      [](const torch::Tensor& s, const torch::Tensor& t) { return torch::mse_loss(s, t); });
}

}  // namespace quell::train
