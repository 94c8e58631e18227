// Pixels [batch, channels, size, size] as rows [batch * patches, channels * patch * patch]: what a
// convolution with the stride of its kernel sees.
#include "quell/graph/ops.h"
#include "quell/graph/relative_positions.h"

namespace quell {
namespace {

ValueType infer(const Graph&, const Node& node) {
  const auto& p = node.attributes.get<PatchAttributes>();
  return {{RowSpace::Kind::kPatches, node.place.stack},
          p.num_channels * p.patch_size * p.patch_size,
          false};
}

Tensor reference(OpCall& call) {
  const auto& p = call.attributes<PatchAttributes>();
  const TokenBatch& batch = call.tokens();
  return patches(batch.pixels, batch.batch, p.num_channels, p.image_size, p.patch_size);
}

}  // namespace

const OpDef op_patches = {.name = "patches", .infer = infer, .reference = reference};

}  // namespace quell
