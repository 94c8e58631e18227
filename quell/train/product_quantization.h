// Product quantization: blocks of a weight's rows are replaced by the nearest of a few centroids
// (iPQ of Quant-Noise, ICLR 2021).
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace quell::train {

struct ProductSettings {
  std::int64_t block_size = 8;  ///< neighbours in a row
  std::int64_t centroids = 256;
  int iterations = 15;
  double eps = 1e-6;    ///< deviation of the noise that parts a split cluster
  int max_splits = 30;  ///< tries an iteration; more end the search
};

struct ProductCode {
  torch::Tensor centroids;        ///< [centroids, block_size]
  torch::Tensor assignments;      ///< int64 [blocks], block k of row r at k * rows + r
  std::vector<double> objective;  ///< Frobenius norm of the error after each iteration
};

/// What k-means leaves to chance.
struct ProductChance {
  torch::Tensor start;  ///< int64 [centroids]: the blocks to start from, in the order above
  /// Which of the empty clusters to fill.
  std::function<std::int64_t(const std::vector<std::int64_t>& empty)> choose;
  /// [block_size] like the weight: is added to one half of the split cluster and subtracted from
  /// the other.
  std::function<torch::Tensor()> noise;
};
/// From a seed: the same on every machine.
ProductChance chance_from(std::uint64_t seed, const torch::Tensor& weight,
                          const ProductSettings& settings);

/// k-means on the blocks of `weight` [rows, columns]. Each iteration: nearest centroid (of equal
/// distances the first), empty clusters filled by splitting the most populated, means. Throws
/// Error(kInvalidInput) when the blocks do not fit.
ProductCode fit_product(const torch::Tensor& weight, const ProductSettings& settings,
                        const ProductChance& chance);

/// Nearest centroid of each block.
torch::Tensor assign_blocks(const torch::Tensor& weight, const torch::Tensor& centroids);
/// The weight [rows, columns] that is made of the centroids; differentiable in them: a centroid
/// gets the sum over its blocks.
torch::Tensor decode_product(const torch::Tensor& centroids, const torch::Tensor& assignments,
                             std::int64_t rows);

}  // namespace quell::train
