#include "quell/train/losses/attention_maps.h"

#include "quell/train/losses/layers.h"

namespace quell::train {

torch::Tensor attention_map_kl(const std::vector<torch::Tensor>& student,
                               const std::vector<torch::Tensor>& teacher,
                               const torch::Tensor& lengths) {
  constexpr double kLeast = 1e-8;
  const auto bounded = [](const torch::Tensor& p) {
    // Not clamp: it would let the gradient pass at the bound itself.
    return torch::where(p < kLeast, torch::full_like(p, kLeast), p);
  };

  return sum_over_layers(
      student, teacher, "attention maps", [&](const torch::Tensor& s, const torch::Tensor& t) {
        const torch::Tensor at = torch::arange(s.size(-1), lengths.options());
        const torch::Tensor is_token = at.unsqueeze(0).lt(lengths.unsqueeze(1));  // [B, S]
        const torch::Tensor is_pair =
            is_token.unsqueeze(2).logical_and(is_token.unsqueeze(1)).unsqueeze(1);  // [B, 1, S, S]
        const torch::Tensor p = bounded(t);
        const torch::Tensor by_pair = p * (p.log() - bounded(s).log());
        const torch::Tensor by_head =
            by_pair.masked_fill(is_pair.logical_not(), 0).sum({-2, -1});  // [B, H]
        return (by_head / lengths.unsqueeze(1).to(by_head.scalar_type())).mean();
      });
}

}  // namespace quell::train
