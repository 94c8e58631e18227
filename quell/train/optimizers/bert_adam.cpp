#include "quell/train/optimizers/optimizer.h"

namespace quell::train {

void BertAdam::update(TrainedParameter& p, const torch::Tensor& gradient, double learning_rate) {
  torch::Tensor& mean = kept(p, "mean");
  torch::Tensor& square = kept(p, "square");
  mean.mul_(options_.beta1).add_(gradient, 1 - options_.beta1);
  square.mul_(options_.beta2).addcmul_(gradient, gradient, 1 - options_.beta2);

  torch::Tensor update = mean / (square.sqrt() + options_.epsilon);
  if (p.weight_decay > 0) update += p.weight_decay * p.value;
  p.value.add_(-learning_rate * update);
}

}  // namespace quell::train
