// Lowers a quantized model to packed integer operators; kernels are chosen here, once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "quell/model/forward.h"

namespace quell {

/// The integer engine: quantized linears run as exact integer products, everything else as in the float model. Keeps a reference to
/// `model`. Throws Error(kUnsupported) naming the linear when its scheme has no integer kernel, and Error(kUsage) when nothing is
/// quantized.
std::unique_ptr<ForwardModel> lower(const Model& model, ExecContext& ctx);

struct LoweredLinear {
  std::string name, kernel;
  std::int64_t rows = 0, columns = 0;
};
/// What `lower` chooses for each linear, for `quell inspect`.
std::vector<LoweredLinear> describe_lowering(const Model& model, ExecContext& ctx);

}  // namespace quell
