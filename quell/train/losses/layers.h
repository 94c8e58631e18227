// What losses that compare layer by layer share.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <string>
#include <vector>

namespace quell::train {

/// Sum over layers of `loss` (student, teacher without gradient). Throws Error(kInvalidInput) with
/// `what` where layers or shapes differ.
torch::Tensor sum_over_layers(
    const std::vector<torch::Tensor>& student, const std::vector<torch::Tensor>& teacher,
    const std::string& what,
    const std::function<torch::Tensor(const torch::Tensor&, const torch::Tensor&)>& loss);

}  // namespace quell::train
