// Losses between values of student and teacher layer by layer: hidden states, outputs of attention,
// contexts.
#pragma once

#include <torch/torch.h>

#include <vector>

namespace quell::train {

/// One value a layer, of the same shape on both sides: sum over layers of the mean squared
/// difference, padding included as the references do (TernaryBERT; Kim et al., EMNLP 2022). Throws
/// Error(kInvalidInput) where layers or shapes differ.
torch::Tensor layer_mse(const std::vector<torch::Tensor>& student,
                        const std::vector<torch::Tensor>& teacher);

}  // namespace quell::train
