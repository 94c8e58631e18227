#include "quell/graph/norm_gradient.h"

#include <cmath>

namespace quell {

void norm_backward(const NormAttributes& norm, const TensorView& x, const Tensor& weight,
                   Tensor& gradient, ExecContext& ctx) {
  const bool layer = norm.kind == NormKind::kLayerNorm;
  const std::int64_t columns = x.cols();
  const auto count = static_cast<double>(columns);

  ctx.pool.parallel_for(x.rows(), 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float* row = x.row(i);
      float* g = gradient.row(i);

      double mean = 0;
      double square = 0;
      for (std::int64_t j = 0; j < columns && layer; ++j)
        mean += static_cast<double>(row[j]) / count;
      for (std::int64_t j = 0; j < columns; ++j)
        square += std::pow(static_cast<double>(row[j]) - mean, 2) / count;
      const double sigma = std::sqrt(square + norm.eps);

      double sum = 0;
      double dot = 0;
      for (std::int64_t j = 0; j < columns; ++j) {
        if (weight.defined()) g[j] *= weight.f32()[static_cast<std::size_t>(j)];
        sum += static_cast<double>(g[j]) / count;
        dot += static_cast<double>(g[j]) * (static_cast<double>(row[j]) - mean) / sigma / count;
      }
      for (std::int64_t j = 0; j < columns; ++j) {
        const double scaled = (static_cast<double>(row[j]) - mean) / sigma;
        const double centered = static_cast<double>(g[j]) - (layer ? sum : 0.0);
        g[j] = static_cast<float>((centered - scaled * dot) / sigma);
      }
    }
  });
}

}  // namespace quell
