// Each row becomes the mean of the rows of its sequence, padding left out.
#include <algorithm>

#include "quell/graph/image_ops.h"

namespace quell {
namespace {

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const TokenBatch& batch = call.tokens();
  const std::int64_t columns = x.cols();
  Tensor out = Tensor::f32(x.shape());
  for (std::int64_t b = 0; b < batch.batch; ++b) {
    const std::int64_t begin = batch.row_begin(b);
    const std::int64_t end = begin + batch.row_count(b);
    std::vector<double> sums(static_cast<std::size_t>(columns));
    double count = 0;
    for (std::int64_t r = begin; r < end; ++r) {
      if (batch.mask[static_cast<std::size_t>(r)] == 0) continue;
      ++count;
      for (std::int64_t c = 0; c < columns; ++c)
        sums[static_cast<std::size_t>(c)] += static_cast<double>(x.row(r)[c]);
    }
    for (std::int64_t r = begin; r < end && count > 0; ++r)
      for (std::int64_t c = 0; c < columns; ++c)
        out.row(r)[c] = static_cast<float>(sums[static_cast<std::size_t>(c)] / count);
  }
  return out;
}

}  // namespace

const OpDef op_sequence_mean = {
    .name = "sequence_mean", .infer = like_operand, .reference = reference};

}  // namespace quell
