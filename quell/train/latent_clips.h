// The clipping search over a whole student, before training (BitDistiller, ACL 2024).
#pragma once

#include "quell/train/student_quantizers.h"
#include "quell/train/training_data.h"

namespace quell::train {

/// Clamps each group of the latent weights where clip_search.h finds the least error of outputs,
/// once: groups are those of the quantizers' steps, inputs those of the unquantized student, of the
/// first `tokens` tokens of the run. Linears that make queries and keys stay as they are. Throws
/// Error(kInvalidInput) where a quantizer's steps are no groups of columns or are learned.
void clip_latent_weights(TorchModel& student, const StudentQuantizers& quantizers,
                         const TrainingData& data, std::int64_t tokens);

}  // namespace quell::train
