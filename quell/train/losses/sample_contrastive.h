// Contrastive distillation of sentences with sample adaptive reweighting, as reconstructed from the
// abstract of ACKD (Guo et al., Findings of ACL 2023), whose formulas were not at hand; its
// relatives are CoDIR (2020) and hard-negative reweighting (Robinson et al., 2021).
#pragma once

#include <torch/torch.h>

#include <optional>

namespace quell::train {

struct SampleContrastiveOptions {
  double temperature = 0.1;  ///< tau
  /// Of the weights of negatives; without it all weigh 1 (plain contrastive distillation).
  std::optional<double> reweighting_temperature;
};

/// z: features times a map, at length 1. With w_ij = (B-1) softmax over j != i of t_i . t_j / tau_w
/// (no gradient), whose mean is 1,
///   loss_i = -log( e(s_i . t_i) / (e(s_i . t_i) + sum over j != i of w_ij e(s_i . t_j)) ),
/// e(x) = exp(x / tau).
struct SampleContrastive {
  torch::Tensor loss;       ///< mean over the batch
  torch::Tensor by_sample;  ///< [B]
  torch::Tensor weights;    ///< [B, B], 1 for the positive
};

/// Features: [B, width of either side], pooled hidden states; maps: [p, width]. A batch of one
/// sentence has no negatives, and loss 0. The teacher's map learns too, the features of the teacher
/// get no gradient.
SampleContrastive sample_contrastive(const torch::Tensor& student, const torch::Tensor& teacher,
                                     const torch::Tensor& student_map,
                                     const torch::Tensor& teacher_map,
                                     const SampleContrastiveOptions& options);

/// z of those: [B, p] of length 1 each.
torch::Tensor contrastive_features(const torch::Tensor& features, const torch::Tensor& map);

/// Mean over the batch of a sentence's similarity to itself in the teacher, less that to the most
/// similar other one: [B, p] of length 1 each.
double contrastive_margin(const torch::Tensor& student, const torch::Tensor& teacher);

}  // namespace quell::train
