// What a compression pass wants changed, as a value: it can be printed, tested, saved and replayed.
// Nodes and values are those of the model's graph. compress/apply.cpp is the only code that carries
// a plan out.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "quell/quant/quant_spec.h"

namespace quell {

/// What computes a value and can absorb a change of it: a norm; a linear, also through an attention
/// whose rows of probabilities sum to one; the rows of a linear in front of a product or a ReLU
/// (scale only); or nothing, so that the change is written down beside the model (explicit).
enum class ProducerKind { kNone, kNorm, kLinear, kLinearRows, kExplicit };

/// Query heads that share a head of values (grouped-query attention): channel (g * heads + i) * dim
/// + d of what an attention gives comes from row g * dim + d of the values, for every i < heads. 1
/// head: channels are rows.
struct SharedHeads {
  std::int64_t heads = 1, dim = 0;
  std::int64_t row_of(std::int64_t channel) const {
    return heads == 1 ? channel : channel / (heads * dim) * dim + channel % dim;
  }
  bool operator==(const SharedHeads&) const = default;
};

/// One value that changes.
struct ChangedValue {
  int value = -1;
  ProducerKind producer = ProducerKind::kNone;
  int producer_node = -1;
  bool restore = false;     ///< something other than the linears reads it (a residual branch), and
                            ///< must undo the change
  SharedHeads shared = {};  ///< kLinear behind an attention: channels of one row change alike
};

/// x -> (x - shift) / scale at all `values`: the producers absorb it, the linears undo it, other
/// readers restore it. Weights that several nodes share change once.
struct ShiftScale {
  std::vector<ChangedValue> values;
  std::vector<int> linears;  ///< nodes, one for each weight
  Tensor scale, shift;       ///< [C]; shift may be undefined
};

/// Channels of `value` spread over several columns, for quantizers: rows of the linears in front
/// are repeated, columns of those that read it are repeated and divided by the number of copies.
/// The float function stays.
struct SplitChannels {
  int value = -1;
  std::vector<int> producers, linears;  ///< nodes; nothing else computes or reads the value
  std::vector<std::int32_t> sources;    ///< by new column: the channel it is a copy of; the first C
                                        ///< are those channels themselves
};

/// Static or dynamic quantizer at the input of linears.
struct SetInputQuant {
  int value = -1;
  ActivationQuant quant;
};

/// Quantizers inside one attention.
struct SetAttentionQuant {
  int node = -1;
  AttentionQuant quant;
};

/// Codes of one linear's weight.
struct ReplaceWeight {
  int node = -1;
  QTensor weight;
};

/// Added to the bias of a linear: what quantization took from the mean of its outputs. The float
/// function changes.
struct AddToBias {
  int node = -1;
  Tensor delta;  ///< [N]
};

/// The epsilon of all norms, in config.json too.
struct SetNormEpsilon {
  double epsilon = 0;
};

using PlanItem = std::variant<ShiftScale, SplitChannels, SetInputQuant, SetAttentionQuant,
                              ReplaceWeight, AddToBias, SetNormEpsilon>;
using Plan = std::vector<PlanItem>;

}  // namespace quell
