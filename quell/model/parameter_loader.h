// The tensors of a checkpoint that a graph's parameters name.
#pragma once

#include "quell/model/model.h"

namespace quell {

/// Fills `model.params`, one for each parameter of `model.graph`, and the quantizers of their
/// inputs; settles first which weights are tied. `prefix` may be missing in front of names.
/// Throws Error with file and tensor on anything missing, misshapen or not finite.
void load_parameters(const Checkpoint& checkpoint, std::string_view prefix, bool allow_missing,
                     Model& model);

}  // namespace quell
