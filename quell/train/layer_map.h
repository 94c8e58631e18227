// Which layer of the teacher each layer of the student is compared with, and starts from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "quell/graph/graph.h"

namespace quell::train {

/// By stack (encoder, decoder), then by layer of the student: a layer of the teacher, from 0.
using LayerMap = std::vector<std::vector<int>>;

/// Of a student with as many stacks as the teacher. `named`: "0,2,4" of the last stack, or of each
/// with a slash in between; empty: evenly spread, the last on the last one. Throws
/// Error(kInvalidInput) where it does not fit.
LayerMap make_layer_map(const Graph& student, const Graph& teacher, const std::string& named);

/// Hidden states of paired layers, embeddings in front: values of the student and of the teacher.
struct ValuePairs {
  std::vector<ValueId> student, teacher;
};
ValuePairs hidden_state_pairs(const Graph& student, const Graph& teacher, const LayerMap& map);

/// Attentions of paired layers, in order (of a decoder behind an encoder its own, then the cross
/// attention). Throws Error(kInvalidInput) naming the layer where the numbers of attentions differ.
struct NodePairs {
  std::vector<NodeId> student, teacher;
};
NodePairs attention_pairs(const Graph& student, const Graph& teacher, const LayerMap& map);

}  // namespace quell::train
