// The last end-of-sequence token of the input (BART's classifier).
#include <algorithm>

#include "quell/base/error.h"
#include "quell/train/torch_op.h"

namespace quell::train {

extern const TorchOp k_select_eos;
const TorchOp k_select_eos = {
    &op_select_eos, [](TorchCall& call) -> torch::Tensor {
      const TokenBatch& batch = call.tokens();
      // A decoder's tokens are those of the input, shifted right: where the input ends is what
      // counts.
      const std::vector<std::int32_t>& input = call.first_tokens().ids;
      const std::vector<std::int32_t>& ends = call.attributes<SelectEosAttributes>().tokens;

      std::vector<std::int64_t> rows;
      for (std::int64_t b = 0; b < batch.batch; ++b) {
        std::int64_t chosen = -1;
        for (std::int64_t row = batch.row_begin(b); row < batch.row_begin(b) + batch.length;
             ++row) {
          const std::int32_t token = input[static_cast<std::size_t>(row)];
          if (std::find(ends.begin(), ends.end(), token) != ends.end()) chosen = row;
        }
        require(chosen >= 0, ErrorCode::kInvalidInput, "sequence ", b,
                " of the batch holds no end-of-sequence token, which this head reads");
        rows.push_back(chosen);
      }
      return call.in(0).index_select(0, torch::tensor(rows));
    }};

}  // namespace quell::train
