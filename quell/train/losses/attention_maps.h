// The attention-map loss of Kim et al. (EMNLP 2022): it keeps the ranking of tokens, which a loss
// on scores does not.
#pragma once

#include <torch/torch.h>

#include <vector>

namespace quell::train {

/// sum over layers of the mean over batch and heads of 1/len sum over i, j < len of
/// P^T_ij (log P^T_ij - log P^S_ij), probabilities bounded below by 1e-8, where no gradient goes.
/// Maps: [B, H, S, S] a layer, before dropout and quantization; lengths: i64 [B], tokens of each
/// sentence, the rest being padding behind them. Throws Error(kInvalidInput) where layers or shapes
/// differ.
torch::Tensor attention_map_kl(const std::vector<torch::Tensor>& student,
                               const std::vector<torch::Tensor>& teacher,
                               const torch::Tensor& lengths);
/// The same of maps [B, H, queries, keys], where those have lengths of their own.
torch::Tensor attention_map_kl(const std::vector<torch::Tensor>& student,
                               const std::vector<torch::Tensor>& teacher,
                               const torch::Tensor& query_lengths,
                               const torch::Tensor& key_lengths);

}  // namespace quell::train
