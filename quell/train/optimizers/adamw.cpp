#include <cmath>

#include "quell/train/optimizers/optimizer.h"

namespace quell::train {

void AdamW::update(TrainedParameter& p, const torch::Tensor& gradient, double learning_rate) {
  const double steps = count_step(p);
  p.value.mul_(1 - learning_rate * p.weight_decay);

  torch::Tensor& mean = kept(p, "mean");
  torch::Tensor& square = kept(p, "square");
  mean.mul_(options_.beta1).add_(gradient, 1 - options_.beta1);
  square.mul_(options_.beta2).addcmul_(gradient, gradient, 1 - options_.beta2);

  const double mean_bias = 1 - std::pow(options_.beta1, steps);
  const double square_bias = 1 - std::pow(options_.beta2, steps);
  const torch::Tensor root = (square.sqrt() / std::sqrt(square_bias)).add_(options_.epsilon);
  p.value.addcdiv_(mean, root, -learning_rate / mean_bias);
}

}  // namespace quell::train
