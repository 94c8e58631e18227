#include "quell/train/product_quantization.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>

#include "quell/base/error.h"
#include "quell/base/random.h"

namespace quell::train {
namespace {

/// [blocks, block_size]
torch::Tensor blocks_of(const torch::Tensor& weight, std::int64_t size) {
  return weight.reshape({weight.size(0), -1, size}).permute({1, 0, 2}).reshape({-1, size});
}

torch::Tensor nearest(const torch::Tensor& blocks, const torch::Tensor& centroids) {
  constexpr std::int64_t kAtOnce = 4096;  // bounds the table of differences
  std::vector<torch::Tensor> parts;
  for (const torch::Tensor& part : blocks.split(kAtOnce))
    parts.push_back((part.unsqueeze(1) - centroids.unsqueeze(0)).norm(2, 2).argmin(1));
  return torch::cat(parts);
}

struct Populations {
  std::vector<std::int64_t> empty;
  std::int64_t largest = 0;  ///< of equal ones that which a block comes first in
};
Populations populations_of(const torch::Tensor& assignments, std::int64_t centroids) {
  const auto* of_block = assignments.data_ptr<std::int64_t>();
  std::vector<std::int64_t> counts(static_cast<std::size_t>(centroids), 0);
  for (std::int64_t i = 0; i < assignments.numel(); ++i)
    ++counts[static_cast<std::size_t>(of_block[i])];

  Populations p;
  for (std::int64_t k = 0; k < centroids; ++k)
    if (counts[static_cast<std::size_t>(k)] == 0) p.empty.push_back(k);
  const std::int64_t most = *std::max_element(counts.begin(), counts.end());
  const std::int64_t* first =
      std::find_if(of_block, of_block + assignments.numel(),
                   [&](std::int64_t k) { return counts[static_cast<std::size_t>(k)] == most; });
  p.largest = *first;
  return p;
}

/// Whether every cluster has a block in the end.
bool fill_empty_clusters(const torch::Tensor& blocks, const ProductSettings& settings,
                         const ProductChance& chance, ProductCode& code) {
  Populations p = populations_of(code.assignments, settings.centroids);
  for (int split = 0; !p.empty.empty(); ++split) {
    if (split > settings.max_splits) return false;
    const std::int64_t filled = chance.choose(p.empty);
    const torch::Tensor noise = chance.noise();
    const torch::Tensor center = code.centroids[p.largest].clone();
    code.centroids[filled].copy_(center + noise);
    code.centroids[p.largest].copy_(center - noise);
    code.assignments = nearest(blocks, code.centroids);
    p = populations_of(code.assignments, settings.centroids);
  }
  return true;
}

torch::Tensor means(const torch::Tensor& blocks, const torch::Tensor& assignments,
                    std::int64_t centroids) {
  const torch::Tensor sums =
      torch::zeros({centroids, blocks.size(1)}, blocks.options()).index_add(0, assignments, blocks);
  const torch::Tensor counts = torch::bincount(assignments, {}, centroids).to(blocks.dtype());
  return sums / counts.unsqueeze(1);
}

}  // namespace

ProductChance chance_from(std::uint64_t seed, const torch::Tensor& weight,
                          const ProductSettings& settings) {
  const auto random = std::make_shared<Random>(seed);
  const auto blocks = static_cast<std::uint64_t>(weight.numel() / settings.block_size);
  std::vector<std::int64_t> start;
  for (std::int64_t k = 0; k < settings.centroids; ++k)
    start.push_back(static_cast<std::int64_t>(random->below(blocks)));

  const auto normal = [random] {  // Box and Muller
    const double radius = std::sqrt(-2 * std::log(1 - random->uniform()));
    return radius * std::cos(2 * std::numbers::pi * random->uniform());
  };
  const torch::TensorOptions like = torch::TensorOptions().dtype(weight.dtype());
  return {torch::tensor(start, torch::kInt64),
          [random](const std::vector<std::int64_t>& empty) {
            return empty[static_cast<std::size_t>(random->below(empty.size()))];
          },
          [=] {
            std::vector<double> values;
            for (std::int64_t i = 0; i < settings.block_size; ++i)
              values.push_back(settings.eps * normal());
            return torch::tensor(values, torch::kFloat64).to(like);
          }};
}

ProductCode fit_product(const torch::Tensor& weight, const ProductSettings& settings,
                        const ProductChance& chance) {
  require(weight.dim() == 2 && weight.size(1) % settings.block_size == 0, ErrorCode::kInvalidInput,
          "product quantization: blocks of ", settings.block_size,
          " do not divide a row of the weight; choose a divisor of its columns");
  const torch::NoGradGuard guard;
  const torch::Tensor blocks = blocks_of(weight, settings.block_size);
  require(settings.centroids <= blocks.size(0), ErrorCode::kInvalidInput,
          "product quantization: ", settings.centroids, " centroids for ", blocks.size(0),
          " blocks; use fewer");

  ProductCode code;
  code.centroids = blocks.index_select(0, chance.start).clone();
  for (int i = 0; i < settings.iterations; ++i) {
    code.assignments = nearest(blocks, code.centroids);
    if (!fill_empty_clusters(blocks, settings, chance, code)) break;
    code.centroids = means(blocks, code.assignments, settings.centroids);
    const torch::Tensor error = code.centroids.index_select(0, code.assignments) - blocks;
    code.objective.push_back(error.norm().item<double>());
  }
  return code;
}

torch::Tensor assign_blocks(const torch::Tensor& weight, const torch::Tensor& centroids) {
  const torch::NoGradGuard guard;
  return nearest(blocks_of(weight, centroids.size(1)), centroids);
}

torch::Tensor decode_product(const torch::Tensor& centroids, const torch::Tensor& assignments,
                             std::int64_t rows) {
  const std::int64_t size = centroids.size(1);
  return centroids.index_select(0, assignments)
      .reshape({-1, rows, size})
      .permute({1, 0, 2})
      .reshape({rows, -1});
}

}  // namespace quell::train
