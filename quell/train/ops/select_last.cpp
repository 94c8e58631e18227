// The last token of each sequence: classifiers of decoders.
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_select_last;
const TorchOp k_select_last = {
    &op_select_last, [](TorchCall& call) -> torch::Tensor {
      const TokenBatch& batch = call.tokens();
      const std::optional<std::int32_t> pad = call.attributes<SelectLastAttributes>().pad_token_id;

      std::vector<std::int64_t> rows;
      for (std::int64_t b = 0; b < batch.batch; ++b) {
        std::int64_t chosen = batch.row_begin(b);
        for (std::int64_t row = chosen; row < batch.row_begin(b) + batch.length; ++row) {
          const auto at = static_cast<std::size_t>(row);
          const bool is_pad = pad.has_value() && batch.ids[at] == *pad;
          if (batch.mask[at] != 0 && !is_pad) chosen = row;
        }
        rows.push_back(chosen);
      }
      return call.in(0).index_select(0, torch::tensor(rows));
    }};

}  // namespace quell::train
