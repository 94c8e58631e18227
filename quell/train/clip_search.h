// Clips for the latent weights before training, searched by the outputs of each group
// (BitDistiller, ACL 2024).
#pragma once

#include <torch/torch.h>

#include <functional>

namespace quell::train {

struct ClipSearch {
  std::int64_t group_size = 128;  ///< neighbours in a row that share a clip
  int grid = 20;                  ///< candidates are max * (1 - i / grid), min * (1 - j / grid)
  double max_shrink = 0.5;        ///< i, j < max_shrink * grid
  std::int64_t sample_tokens = 512;
};

/// Of weight [rows, columns]: [rows, groups].
struct Clips {
  torch::Tensor high, low;
  torch::Tensor error;      ///< the least there is
  torch::Tensor runner_up;  ///< the second least; infinity with one candidate
};

/// For each group of each row the clips with the least mean over tokens of (x (q(clamp(w)) - w))^2.
/// Of x [tokens, columns] every (tokens / sample_tokens)-th is taken. `quantize` takes groups of
/// weights [n, group_size]. Of equal errors the first counts, shrinking the minimum first. Throws
/// Error(kInvalidInput) when sizes do not fit.
Clips search_clips(const torch::Tensor& weight, const torch::Tensor& x, const ClipSearch& settings,
                   const std::function<torch::Tensor(const torch::Tensor& groups)>& quantize);

/// The weight between its clips.
torch::Tensor clamp_to(const torch::Tensor& weight, const Clips& clips);

}  // namespace quell::train
