// The last token of each sequence: classifiers of decoders.
#include <algorithm>

#include "quell/graph/ops.h"

namespace quell {
namespace {

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const TokenBatch& batch = call.tokens();
  const std::optional<std::int32_t> pad = call.attributes<SelectLastAttributes>().pad_token_id;

  Tensor out = Tensor::f32({batch.batch, x.cols()});
  for (std::int64_t b = 0; b < batch.batch; ++b) {
    std::int64_t chosen = 0;
    for (std::int64_t i = 0; i < batch.row_count(b); ++i) {
      // Padding is known by its token, also where the text itself ends with that token, as the
      // reference does; by the mask where the model has none.
      const auto at = static_cast<std::size_t>(batch.row_begin(b) + i);
      const bool is_pad = pad.has_value() && batch.ids[at] == *pad;
      if (batch.mask[at] != 0 && !is_pad) chosen = i;
    }
    std::copy_n(x.row(batch.row_begin(b) + chosen), x.cols(), out.row(b));
  }
  return out;
}

}  // namespace

const OpDef op_select_last = {
    .name = "select_last", .infer = one_row_a_sequence, .reference = reference};

}  // namespace quell
