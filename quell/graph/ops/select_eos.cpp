// The last end-of-sequence token of the input (BART's classifier).
#include <algorithm>

#include "quell/base/error.h"
#include "quell/graph/ops.h"

namespace quell {
namespace {

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const TokenBatch& batch = call.tokens();
  // A decoder's tokens are those of the input, shifted right: where the input ends is what counts.
  const std::vector<std::int32_t>& input = call.first_tokens().ids;
  const std::vector<std::int32_t>& ends = call.attributes<SelectEosAttributes>().tokens;

  Tensor out = Tensor::f32({batch.batch, x.cols()});
  for (std::int64_t b = 0; b < batch.batch; ++b) {
    std::int64_t chosen = -1;
    for (std::int64_t i = 0; i < batch.row_count(b); ++i) {
      const std::int32_t token = input[static_cast<std::size_t>(batch.row_begin(b) + i)];
      if (std::find(ends.begin(), ends.end(), token) != ends.end()) chosen = i;
    }
    require(chosen >= 0, ErrorCode::kInvalidInput, "sequence ", b,
            " of the batch holds no end-of-sequence token, which this head reads");
    std::copy_n(x.row(batch.row_begin(b) + chosen), x.cols(), out.row(b));
  }
  return out;
}

}  // namespace

const OpDef op_select_eos = {
    .name = "select_eos", .infer = one_row_a_sequence, .reference = reference};

}  // namespace quell
