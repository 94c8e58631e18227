// Where the references of golden/qat have their quantizers: the same places for a first forward
// pass and for whole training runs.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "quell/graph/forms.h"
#include "quell/train/torch_model.h"

namespace quell::train::testing {

using Settings = std::map<std::string, std::string>;
/// A training quantizer, as the function of a slot.
using MakeSlot = std::function<TensorFunction(const std::string& method, const Settings& settings)>;

/// A linear in a layer, or a pooler.
inline bool takes_few_bits(const Graph& graph, const Node& node) {
  const bool is_pooler = node.param != kNoParam && graph.param(node.param).role == Role::kPooler;
  return node.is(op_linear) && (node.place.layer >= 0 || is_pooler);
}

/// Whether a checkpoint holds that matrix as [in, out].
inline bool is_transposed(const Model& model, const std::string& weight) {
  for (const Param& p : model.params)
    if (p.weight_name == weight) return p.packing.transposed;
  return false;
}

struct TwoTwoEight {
  std::string clip = "2.5";
  std::string bits = "8";
  bool linear_inputs =
      true;  ///< without them, what is inside attentions has eight bits all the same
};

/// KD-QAT's and DQ-BART's: ternary weights and table, eight bits for what linears and attentions
/// read.
inline QuantizerSlots two_two_eight(Graph& graph, const MakeSlot& make,
                                    const TwoTwoEight& options = {}) {
  const Settings eight = {
      {"granularity", "tensor"}, {"bits", options.bits}, {"clip", options.clip}};
  const auto ternary = [&](const std::string& granularity) {
    return make("twn", {{"granularity", granularity}, {"clip", options.clip}});
  };

  QuantizerSlots out;
  const std::vector<NodeId> order = graph.order();
  for (const NodeId n : order) {
    const Node node = graph.node(n);
    if (node.is(op_attention))
      for (const AttentionStage stage : {AttentionStage::kQuery, AttentionStage::kKey,
                                         AttentionStage::kValue, AttentionStage::kMap})
        out.attention[{n, stage}] = make("dynamic", eight);
    const bool is_table =
        node.is(op_embedding) && graph.value(node.in[0]).input == InputKind::kTokenIds;
    if (is_table) {
      set_weight_quant(graph, node.param, {});
      out.weights[node.param] = ternary("row");
    }
    if (!takes_few_bits(graph, node)) continue;

    set_weight_quant(graph, node.param, {});
    out.weights[node.param] = ternary("tensor");
    if (!options.linear_inputs) continue;
    const ValueId x = base_of(graph, node.in[kLinearInput]);
    set_input_quant(graph, x, {}, false,
                    [&](const Node& reader) { return takes_few_bits(graph, reader); });
    out.values[x] = make("dynamic", eight);
  }
  return out;
}

/// A function for each stored matrix of the layers, which `make` gives for its name.
inline QuantizerSlots slots_of_stored_weights(
    Graph& graph, const TorchModel& model,
    const std::function<TensorFunction(const std::string& weight)>& make) {
  QuantizerSlots out;
  const std::vector<NodeId> order = graph.order();
  for (const NodeId n : order) {
    const Node node = graph.node(n);
    if (!takes_few_bits(graph, node)) continue;
    set_weight_quant(graph, node.param, {});
    const std::string& name = model.parameters().stored_weight(node.param);
    if (!out.fused.contains(name)) out.fused[name] = make(name);
  }
  return out;
}

/// The same function of a matrix that a checkpoint holds transposed, as it is stored.
inline TensorFunction as_stored(const TensorFunction& function) {
  return [function](const torch::Tensor& w) { return function(w.t()).t(); };
}

}  // namespace quell::train::testing
