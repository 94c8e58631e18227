// What attentions over images share.
#pragma once

#include "quell/base/exec_context.h"
#include "quell/tensor/tensor.h"

namespace quell {

/// Rows [first, first + count) of a matrix, which they borrow.
TensorView rows_at(const TensorView& m, std::int64_t first, std::int64_t count);
/// Each row to exp(x) over their sum; the sum in double.
void softmax_rows(Tensor& scores, ExecContext& ctx);

}  // namespace quell
