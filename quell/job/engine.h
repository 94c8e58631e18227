// Engines by name.
#pragma once

#include <memory>
#include <string>

#include "quell/engine/engines.h"

namespace quell {

/// "float", "bf16" (weights), "simulated" (f32 products of fake-quantized values),
/// "simulated-exact" (integer sums, plain loops) or "integer". Keeps a reference to `model`. Throws
/// Error(kUsage) on another name, or when `model` is not quantized and the engine needs it to be.
std::unique_ptr<ForwardModel> make_engine(const std::string& name, const Model& model,
                                          ExecContext& ctx);

}  // namespace quell
