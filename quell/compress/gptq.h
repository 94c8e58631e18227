// GPTQ (Frantar et al., ICLR 2023): weights are rounded column by column, and what a column's
// rounding adds to the outputs is taken out of the columns that are still to come.
#pragma once

#include <vector>

#include "quell/base/exec_context.h"
#include "quell/quant/quant_spec.h"

namespace quell {

/// The factor that decides how errors are spread: U upper triangular with H^-1 = U^T U, H = X^T X +
/// damping * mean(diag) * I, over inputs in the order in which columns are rounded.
struct GptqFactor {
  std::vector<std::int64_t>
      order;     ///< column that is rounded n-th: by falling diagonal of H, or as they stand
  Tensor upper;  ///< f32 [C, C]
};

/// `gram`: X^T X, f32 [C, C], symmetric. Throws Error(kNumeric) where no positive definite H comes
/// of it.
GptqFactor make_gptq_factor(const Tensor& gram, double damping, bool by_size, ExecContext& ctx);

/// Codes of w [N, C] with the steps of `q`; groups get MinMax steps when their first column comes
/// up, which needs `order` as columns stand.
QTensor gptq_round(const TensorView& w, QTensor q, const GptqFactor& factor, ExecContext& ctx);

/// Coordinate descent (QuantEase, Behdin et al., 2023): from the codes of `q` on, one code after
/// the other moves to where the error (w^q - w) H (w^q - w)^T of its row is smallest, at most
/// `sweeps` times over the columns; H as in GptqFactor. Steps stay.
QTensor descend_codes(const TensorView& w, QTensor q, const Tensor& gram, double damping,
                      std::int64_t sweeps, ExecContext& ctx);

}  // namespace quell
