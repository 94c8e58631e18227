// Losses between attention scores Q K^T / sqrt(d), mask added, [B, H, S, S] a layer.
#pragma once

#include <torch/torch.h>

#include <vector>

namespace quell::train {

/// TernaryBERT's: sum over layers of the mean squared difference over all entries; those that are
/// masked (at most `masked_below`) count as 0 on their side. Throws Error(kInvalidInput) where
/// layers or shapes differ.
torch::Tensor attention_score_mse(const std::vector<torch::Tensor>& student,
                                  const std::vector<torch::Tensor>& teacher,
                                  double masked_below = -100);

/// TSLD's layer-to-layer form, of attention maps of causal models: sum over layers of the mean
/// squared difference over the lower triangle.
torch::Tensor causal_map_mse(const std::vector<torch::Tensor>& student,
                             const std::vector<torch::Tensor>& teacher);

}  // namespace quell::train
