// Whether a model file computes what was trained: linear by linear, on the same inputs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "quell/base/exec_context.h"
#include "quell/model/model.h"
#include "quell/train/student_quantizers.h"
#include "quell/train/torch_model.h"

namespace quell::train {

/// How far a deployed model is from the student, over the inputs that it was compared on.
struct DeploymentCheck {
  /// Codes of activations: of the inputs of quantized linears, and of what attentions read.
  std::int64_t codes = 0;
  std::int64_t differing = 0;
  std::int64_t by_more_than_one = 0;
  std::int64_t away_from_ties = 0;  ///< differing ones that rounding to a neighbour cannot explain
  /// Rows of outputs of quantized linears whose inputs have no such code, and how far apart they
  /// are at most: the largest difference in a row over the row's largest magnitude.
  std::int64_t rows = 0;
  double row_distance = 0;
  std::string farthest;  ///< the linear of that row

  double share() const {
    return codes > 0 ? static_cast<double>(differing) / static_cast<double>(codes) : 0;
  }
  /// At most one code of 10^4 differs, by one, at a tie; rows without one agree to 1e-5.
  bool passes() const;
  /// On one line.
  std::string text() const;
};

/// `read`: the model file of `student`, which has the quantizers. Runs the student on `batches`,
/// and each quantized linear of `read` on what the student's reads there. Throws
/// Error(kVerification) naming a linear or an attention that `read` lacks or holds unquantized.
DeploymentCheck check_deployment(const TorchModel& student, const StudentQuantizers& quantizers,
                                 const Model& read, const std::vector<TokenBatch>& batches,
                                 ExecContext& ctx);

}  // namespace quell::train
