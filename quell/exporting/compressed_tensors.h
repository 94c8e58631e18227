// Writes the compressed-tensors `int-quantized` layout, or `pack-quantized` for codes of few bits,
// which Quell and transformers read (docs/format.md).
#pragma once

#include <filesystem>

#include "quell/exporting/stored_tensors.h"

namespace quell {

/// config.json with `quantization_config`, model.safetensors, and the files of the source directory
/// that travel with a model (side_files.h). What the layout cannot hold goes under the key "quell"
/// and into tensors "quell.*", and the format's name is then one that other readers refuse. Appears
/// under `out` only when complete. `replace` allows an existing directory to be replaced. Throws
/// Error(kIo).
ExportSummary export_compressed_tensors(const Model& model, const std::filesystem::path& out,
                                        bool replace);

}  // namespace quell
