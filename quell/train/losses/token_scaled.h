// Token-scaled logit distillation (Kim et al., NeurIPS 2023): positions of which the teacher is
// unsure count more.
#pragma once

#include <torch/torch.h>

namespace quell::train {

/// [B, T-1]: of each position that predicts another one, the teacher's cross entropy with the label
/// there (0 where that is ignored), and its softmax over the positions of the sequence at
/// temperature tau, which is the weight. No gradient.
struct TokenScale {
  torch::Tensor teacher_cross_entropy, weight;
};
TokenScale token_scale(const torch::Tensor& teacher, const torch::Tensor& labels, double tau);

/// sum over sequences and positions of weight * soft cross entropy. student, teacher: [B, T, V];
/// labels: i64 [B, T], kIgnoredLabel where there is none. The reference sums over the batch, so
/// that the gradient grows with it.
torch::Tensor token_scaled_soft_cross_entropy(const torch::Tensor& student,
                                              const torch::Tensor& teacher,
                                              const torch::Tensor& labels, double tau);

}  // namespace quell::train
