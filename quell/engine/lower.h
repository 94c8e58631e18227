// Lowers a quantized model to packed integer operators; kernels are chosen here, once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "quell/engine/engines.h"

namespace quell {

/// The integer engine: quantized linears run as exact integer products that write the next
/// operator's codes where the recipe is static; everything else as in the float model. Keeps a
/// reference to `model`. Throws Error(kUnsupported) naming the linear when its scheme has no
/// integer kernel, and Error(kUsage) when nothing is quantized.
std::unique_ptr<ForwardModel> lower(const Model& model, ExecContext& ctx);

struct LoweredNode {
  std::string name, kernel, fused;
  std::int64_t rows = 0, columns = 0;
  std::size_t bytes = 0;  ///< of the weights as the kernel reads them
};
/// What `lower` chooses for each linear, and for each node that runs otherwise than step by step,
/// for `quell inspect`.
std::vector<LoweredNode> describe_lowering(const Model& model, ExecContext& ctx);

}  // namespace quell
