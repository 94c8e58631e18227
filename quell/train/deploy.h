// From a trained student to a quantized model, which any engine runs and any writer exports.
#pragma once

#include "quell/model/model.h"
#include "quell/train/student_quantizers.h"
#include "quell/train/torch_model.h"

namespace quell::train {

/// Throws Error(kUnsupported) naming a quantizer that no file can hold, with its reason: before a
/// training run is spent on it.
void check_deployable(const StudentQuantizers& quantizers, const TorchModel& student);

/// Writes the parameters, the codes of matrices and the quantizers of activations into `model`,
/// whose graph the quantizers were put into; the graph then says what they are. A table becomes
/// what its codes give, and a head that is tied to it multiplies with these codes where its input
/// has a quantizer, and else in floats. Throws as check_deployable does.
void deploy(const TorchModel& student, const StudentQuantizers& quantizers, Model& model);

}  // namespace quell::train
