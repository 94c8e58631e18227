#include "quell/train/optimizers/optimizer.h"

namespace quell::train {

void Sgd::update(TrainedParameter& p, const torch::Tensor& gradient, double learning_rate) {
  torch::Tensor direction = gradient + p.weight_decay * p.value;
  if (momentum_ > 0) {
    torch::Tensor& velocity = kept(p, "velocity");
    velocity.mul_(momentum_).add_(direction);
    direction = velocity;
  }
  p.value.add_(direction, -learning_rate);
}

}  // namespace quell::train
