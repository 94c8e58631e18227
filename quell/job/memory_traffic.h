// Memory traffic of networks of convolutions, for `quell inspect --kernels`.
#pragma once

#include <string>

#include "quell/io/json_fwd.h"
#include "quell/model/model.h"

namespace quell {

/// {"operators": [{"name", "what", "operands", "converted", "residual", "weights", "output", "all",
/// "ideal"}], "all", "ideal"} in bytes (engine/traffic.h); null for models that are no networks of
/// convolutions.
Json describe_memory_traffic(const Model& model, ExecContext& ctx);
/// A table of it.
std::string memory_traffic_text(const Json& traffic);

}  // namespace quell
