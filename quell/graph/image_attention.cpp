#include "quell/graph/image_attention.h"

#include <algorithm>
#include <cmath>

namespace quell {

TensorView rows_at(const TensorView& m, std::int64_t first, std::int64_t count) {
  return {m.row(first), DType::kF32, {count, m.cols()}};
}

void softmax_rows(Tensor& scores, ExecContext& ctx) {
  const std::int64_t columns = scores.cols();
  ctx.pool.parallel_for(scores.rows(), 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      float* row = scores.row(r);
      const float largest = *std::max_element(row, row + columns);
      double sum = 0;
      for (std::int64_t j = 0; j < columns; ++j) {
        row[j] = std::exp(row[j] - largest);
        sum += static_cast<double>(row[j]);
      }
      for (std::int64_t j = 0; j < columns; ++j)
        row[j] = static_cast<float>(static_cast<double>(row[j]) / sum);
    }
  });
}

}  // namespace quell
