// The only code that changes a model's weights.
#pragma once

#include "quell/model/model.h"
#include "quell/quant/plan.h"

namespace quell {

/// Carries `plan` out. The float function of the model stays the same under ShiftScale. Throws
/// Error(kUnsupported) where a producer cannot absorb it.
void apply(const Plan& plan, Model& model);

}  // namespace quell
