// Models of well-known shapes with random weights: for speed, where no checkpoint is at hand.
#pragma once

#include <string>
#include <vector>

#include "quell/model/model.h"

namespace quell {

/// The model that `config` (config.json) describes, with zeros in every tensor.
Model make_zero_model(const std::string& config);

std::vector<std::string> random_model_names();  // "bert-base", "minilm", "llama-110m", ...
/// Same name, same weights on every machine. Throws Error(kUsage) on another name.
Model make_random_model(const std::string& name);

}  // namespace quell
