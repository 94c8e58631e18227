// What of a quantized model other readers of compressed-tensors cannot compute.
#pragma once

#include <string>
#include <vector>

#include "quell/model/model.h"

namespace quell {

/// One phrase for each thing that other readers would leave out and so compute another function;
/// empty where the file means the same to them.
std::vector<std::string> own_features(const Model& model);

/// Whether transformers has a class for the model: not for networks described op by op, nor for
/// LSTR.
bool is_known_to_others(const Model& model);

/// Built-in recipes whose files of this model others read; "" where there is none (GPT-2's Conv1D,
/// DeBERTa).
std::string recipes_for_others(const Model& model);

}  // namespace quell
