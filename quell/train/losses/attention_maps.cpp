#include "quell/train/losses/attention_maps.h"

#include "quell/train/losses/layers.h"

namespace quell::train {
namespace {

/// bool [B, size]: whether a sentence reaches that far.
torch::Tensor within(const torch::Tensor& lengths, std::int64_t size) {
  const torch::Tensor at = torch::arange(size, lengths.options());
  return at.unsqueeze(0).lt(lengths.unsqueeze(1));
}

}  // namespace

torch::Tensor attention_map_kl(const std::vector<torch::Tensor>& student,
                               const std::vector<torch::Tensor>& teacher,
                               const torch::Tensor& lengths) {
  return attention_map_kl(student, teacher, lengths, lengths);
}

torch::Tensor attention_map_kl(const std::vector<torch::Tensor>& student,
                               const std::vector<torch::Tensor>& teacher,
                               const torch::Tensor& query_lengths,
                               const torch::Tensor& key_lengths) {
  constexpr double kLeast = 1e-8;
  const auto bounded = [](const torch::Tensor& p) {
    // Not clamp: it would let the gradient pass at the bound itself.
    return torch::where(p < kLeast, torch::full_like(p, kLeast), p);
  };

  return sum_over_layers(
      student, teacher, "attention maps", [&](const torch::Tensor& s, const torch::Tensor& t) {
        const torch::Tensor is_query = within(query_lengths, s.size(-2));
        const torch::Tensor is_key = within(key_lengths, s.size(-1));
        const torch::Tensor is_pair =
            is_query.unsqueeze(2).logical_and(is_key.unsqueeze(1)).unsqueeze(1);  // [B, 1, Q, K]
        const torch::Tensor p = bounded(t);
        const torch::Tensor by_pair = p * (p.log() - bounded(s).log());
        const torch::Tensor by_head =
            by_pair.masked_fill(is_pair.logical_not(), 0).sum({-2, -1});  // [B, H]
        return (by_head / query_lengths.unsqueeze(1).to(by_head.scalar_type())).mean();
      });
}

}  // namespace quell::train
