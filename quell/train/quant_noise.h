// Training with quantization noise (Fan, Stock et al., ICLR 2021): in each step a random part of a
// weight is quantized, the rest is not, and the latent weight stays what it is.
#pragma once

#include <torch/torch.h>

#include <cstdint>

#include "quell/train/step_groups.h"

namespace quell::train {

/// `quantized` where `mask` is 1, `w` elsewhere; the gradient goes to `w` as it is. All is divided
/// by `keep` (1 - p, or 1).
torch::Tensor with_noise(const torch::Tensor& w, const torch::Tensor& quantized,
                         const torch::Tensor& mask, double keep = 1);

/// Of a mask of blocks [rows, blocks of a row] that of entries.
torch::Tensor entries_of_blocks(const torch::Tensor& mask, std::int64_t block_size);
/// 1 with probability p, from a seed alone.
torch::Tensor random_mask(torch::IntArrayRef shape, double p, std::uint64_t seed,
                          const torch::TensorOptions& options);

/// Codes 0..2^bits - 1 of the range widened to hold 0: step = (max - min) / (2^bits - 1), zero =
/// -round(min / step), code = clamp(round(w / step + zero)).
struct IntegerCodes {
  torch::Tensor codes, step, zero;  ///< [groups, elements], [groups, 1], [groups, 1]
  torch::Tensor values() const { return (codes - zero) * step; }
};
IntegerCodes integer_codes(const torch::Tensor& groups, int bits);

}  // namespace quell::train
