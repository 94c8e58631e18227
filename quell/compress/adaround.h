// AdaRound (Nagel et al., ICML 2020): for every weight, up or down is chosen by what the whole row
// does to the outputs.
#pragma once

#include "quell/base/exec_context.h"
#include "quell/quant/quant_spec.h"

namespace quell {

struct AdaRoundOptions {
  std::int64_t iterations =
      1000;  ///< with the whole Gram matrix each, not with a few samples as in the paper's 10,000
  double learning_rate = 0.03;
  double regularization =
      1;  ///< of the term that asks for 0 or 1, beside errors in units of what a step adds
};

/// Codes of w [N, C] with the steps of `nearest`, which holds the codes of rounding to nearest.
/// With e = w^q - w, a row's error is e gram e^T - 2 e pull^T. `gram`: X^T X, f32 [C, C]; `pull`
/// [N, C]: what else the outputs should move by, W (X_wanted - X)^T X, or undefined: nothing. A row
/// keeps its nearest codes where no better ones are found, so no row's error grows.
QTensor adaround(const TensorView& w, QTensor nearest, const Tensor& gram, const TensorView& pull,
                 const AdaRoundOptions& options, ExecContext& ctx);

}  // namespace quell
