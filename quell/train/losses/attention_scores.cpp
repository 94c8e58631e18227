#include "quell/train/losses/attention_scores.h"

#include "quell/train/losses/layers.h"

namespace quell::train {

torch::Tensor attention_score_mse(const std::vector<torch::Tensor>& student,
                                  const std::vector<torch::Tensor>& teacher, double masked_below) {
  const auto unmasked = [&](const torch::Tensor& scores) {
    return scores.masked_fill(scores.le(masked_below), 0);
  };
  return sum_over_layers(student, teacher, "attention scores",
                         [&](const torch::Tensor& s, const torch::Tensor& t) {
                           return torch::mse_loss(unmasked(s), unmasked(t));
                         });
}

torch::Tensor causal_map_mse(const std::vector<torch::Tensor>& student,
                             const std::vector<torch::Tensor>& teacher) {
  return sum_over_layers(
      student, teacher, "attention maps", [](const torch::Tensor& s, const torch::Tensor& t) {
        const torch::Tensor lower =
            torch::ones({s.size(-2), s.size(-1)}, s.options().dtype(torch::kBool)).tril();
        return (s - t).square().masked_select(lower.expand_as(s)).mean();
      });
}

}  // namespace quell::train
