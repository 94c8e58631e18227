// Position ids of the tokens, by the model's rule.
#include <algorithm>

#include "quell/graph/ops.h"

namespace quell {

std::vector<std::int32_t> position_ids(const PositionAttributes& positions,
                                       const TokenBatch& batch) {
  std::vector<std::int32_t> out(batch.mask.size());
  const std::int32_t of_padding = std::max(positions.offset - 1, 0);

  for (std::int64_t b = 0; b < batch.batch; ++b) {
    std::int32_t seen = batch.past_of(b);
    for (std::int64_t i = 0; i < batch.row_count(b); ++i) {
      const auto at = static_cast<std::size_t>(batch.row_begin(b) + i);
      if (positions.rule == PositionRule::kIndex) {
        out[at] = static_cast<std::int32_t>(i) + batch.past_of(b) + positions.offset;
        continue;
      }

      const bool counts = positions.rule == PositionRule::kNonPadCount
                              ? batch.ids[at] != positions.pad_token_id
                              : batch.mask[at] != 0;
      if (counts) ++seen;
      // Padding gets -1 + offset where the family has an offset (a row of its own), else 0.
      out[at] = counts ? seen - 1 + positions.offset : of_padding;
    }
  }
  return out;
}

namespace {

ValueType infer(const Graph&, const Node& node) {
  return {{RowSpace::Kind::kTokens, node.place.stack}, 1, false};
}

Tensor reference(OpCall& call) {
  const std::vector<std::int32_t> ids =
      position_ids(call.attributes<PositionAttributes>(), call.tokens());
  return Tensor::from<std::int32_t>(ids, {static_cast<std::int64_t>(ids.size()), 1});
}

}  // namespace

const OpDef op_position_ids = {.name = "position_ids", .infer = infer, .reference = reference};

}  // namespace quell
