// Networks that config.json describes op by op, under the key "graph"
// (docs/network_description.md).
#pragma once

#include "quell/model/family.h"

namespace quell {

/// Nodes of config.json's list "graph" on images of the size that "input" says. Sizes of weights
/// are those of the checkpoint's tensors. Throws Error naming node and value where an op is not
/// known, where nodes read each other in a circle, where a tensor is missing, or does not fit.
void build_described_network(ModelBuilder& g, const Config& config);

}  // namespace quell
