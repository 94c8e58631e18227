// An op as somebody outside the project would add it: one definition in one file.
#pragma once

#include "quell/graph/op.h"

namespace quell::testing {

/// Times `DoublingAttributes::times`, in a way that no op of Quell does.
extern const OpDef op_doubling;

struct DoublingAttributes {
  int times = 1;  ///< how often the value is added to itself
};

}  // namespace quell::testing
