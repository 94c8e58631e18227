// What the papers look at to say what a loss has kept: no losses themselves, no gradients.
#pragma once

#include <torch/torch.h>

namespace quell::train {

/// Of attention maps [.., n, n] of one sentence without padding, one value a map [..]: sum over
/// rows r, i < n-1, 0 < j of max(0, -(S_ri - S_rj) sign(T_ri - T_rj)) (Kim et al., EMNLP 2022, the
/// authors' notebook): how often and by how much the student ranks tokens otherwise.
torch::Tensor ranking_loss(const torch::Tensor& student, const torch::Tensor& teacher);

/// Of the same: how far down the student's order of a row the teacher's `top` tokens are spread, as
/// a share of n; mean over rows as the notebook takes it (n-1 rows, divided by n).
torch::Tensor cover_length_ratio(const torch::Tensor& student, const torch::Tensor& teacher,
                                 std::int64_t top = 5);

/// Mean cosine of all pairs of rows of [n, d] (Tao et al., ACL 2022: quantized embeddings become
/// alike). Rows of zeros are left out.
double pairwise_cosine(const torch::Tensor& rows);

/// Entropy of the singular values of [n, d], as shares of their sum, over the logarithm of their
/// number: 1 where all directions are used alike, 0 where one is.
double singular_value_entropy(const torch::Tensor& rows);

}  // namespace quell::train
