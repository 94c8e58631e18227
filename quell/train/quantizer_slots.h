// Where training puts its quantizers into a forward pass. The interpreter knows none: it calls
// whatever function stands at a place.
#pragma once

#include <torch/torch.h>

#include <compare>
#include <functional>
#include <map>
#include <string>

#include "quell/graph/attention_run.h"

namespace quell::train {

/// A stage of an attention node.
struct AttentionPoint {
  NodeId node = kNoNode;
  AttentionStage stage = AttentionStage::kMap;
  auto operator<=>(const AttentionPoint&) const = default;
};

using TensorFunction = std::function<torch::Tensor(const torch::Tensor&)>;

/// Functions by place, each of which gives a tensor of the shape it is given. Places without one
/// are read as they are.
struct QuantizerSlots {
  /// Of `quantize` nodes, by the value they quantize (base_of): [rows, columns].
  std::map<ValueId, TensorFunction> values = {};
  /// Of query, key and value as they go into the products, and of the map (behind its dropout):
  /// [batch, heads, rows, columns]. Nothing in the graph need say so.
  std::map<AttentionPoint, TensorFunction> attention = {};
  /// Of `quantize_weight` nodes, by the parameter whose nodes read behind them (`readers`):
  /// [out, in]. A tied parameter without a function of its own reads its table's, and both share
  /// one result.
  std::map<ParamId, TensorFunction> weights = {};
  /// The same of a whole stored tensor, of which several parameters are rows (fused q, k and v), by
  /// its name: where the parameter has none of its own. [all rows, in], as the checkpoint orders
  /// them.
  std::map<std::string, TensorFunction> fused = {};

  bool empty() const {
    return values.empty() && attention.empty() && weights.empty() && fused.empty();
  }
};

}  // namespace quell::train
