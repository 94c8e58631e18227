// Writes the compressed-tensors `int-quantized` layout, which Quell, vLLM and transformers read (docs/format.md).
#pragma once

#include <filesystem>

#include "quell/model/model.h"

namespace quell {

/// config.json with `quantization_config`, model.safetensors, and every other small file of the source directory (tokenizer,
/// pooling). What the layout cannot hold goes under the key "quell" and into tensors "quell.*". Appears under `out` only when
/// complete. `replace` allows an existing directory to be replaced. Throws Error(kIo).
void export_compressed_tensors(const Model& model, const std::filesystem::path& out, bool replace);

}  // namespace quell
