// Writes the migrated float model as an ordinary checkpoint of its family, which transformers loads
// unchanged.
#pragma once

#include <filesystem>
#include <string>

#include "quell/exporting/stored_tensors.h"

namespace quell {

/// "a plain bert checkpoint", for messages.
std::string plain_checkpoint(const Model& model);

/// Float weights of `model` (quantized or not) in f32, config.json and side files. Throws
/// Error(kUnsupported) naming what the family has no place for: biases that a shift added, norms
/// whose residual branch must undo the migration.
ExportSummary export_float_checkpoint(const Model& model, const std::filesystem::path& out,
                                      bool replace);

}  // namespace quell
