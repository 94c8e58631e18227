// What a compression pass wants changed, as a value: it can be printed, tested, saved and replayed. Nodes and values are those of
// the model's graph. compress/apply.cpp is the only code that carries a plan out.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "quell/quant/quant_spec.h"

namespace quell {

enum class ProducerKind { kNone, kNorm, kLinearRows, kExplicit };

/// x -> (x - shift) / scale at `value`; the producer absorbs it, the linears undo it, other readers restore it.
struct ShiftScale {
  int value = -1;
  ProducerKind producer = ProducerKind::kNone;
  int producer_node = -1;
  std::vector<int> linears;
  bool restore = false;  ///< something other than the linears reads the value (a residual branch)
  Tensor scale, shift;   ///< [C]; shift may be undefined
};

/// Static or dynamic quantizer at the input of linears.
struct SetInputQuant {
  int value = -1;
  ActivationQuant quant;
};

/// Codes of one linear's weight.
struct ReplaceWeight {
  int node = -1;
  QTensor weight;
};

using PlanItem = std::variant<ShiftScale, SetInputQuant, ReplaceWeight>;
using Plan = std::vector<PlanItem>;

}  // namespace quell
