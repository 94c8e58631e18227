// A ModelSpec unrolled over its layers: one node a step, every value written once (static single
// assignment). What feeds what (fan-outs, residual branches, what lives across a block border) is
// read off here instead of being kept by hand.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "quell/model/model_spec.h"

namespace quell {

using ValueId = int;
inline constexpr ValueId kNoValue = -1;

struct Node {
  StepKind kind;
  Slot slot;
  int stack = 0;
  int layer = -1;    ///< index of the layer in its stack, -1 outside blocks
  int weights = -1;  ///< LayerRef::weights, -1 for weights of the whole model
  std::array<ValueId, kMaxOperands> in = {kNoValue, kNoValue, kNoValue, kNoValue, kNoValue};
  ValueId out = kNoValue;
  ActivationKind activation = ActivationKind::kRelu;
  float number = 0.0F;
  bool cross = false;
};

struct NodeRange {
  int begin = 0, end = 0;
};

struct Graph {
  std::vector<Node> nodes;
  std::vector<int> producer;      ///< value -> node
  std::vector<int> last_use;      ///< value -> node, -1 when unused
  std::vector<NodeRange> blocks;  ///< one a layer, all stacks in order
  /// By stack: embeddings, after each block; the last one after the epilogue, unless the stack says
  /// otherwise.
  std::vector<std::vector<ValueId>> hidden_states;
  std::vector<bool> constant;  ///< values that depend on weights alone
  std::vector<std::pair<std::string, ValueId>> outputs;

  /// Nodes that read `value`, ascending.
  std::vector<int> uses(ValueId value) const;
};

Graph build_graph(const ModelSpec& spec);

}  // namespace quell
