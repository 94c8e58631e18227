// The part of docs/models.md that says what of a model directory is read.
#pragma once

namespace quell {

/// Markdown: config.json, tensors, generation_config.json, quantized checkpoints, --accept.
const char* what_is_read_markdown();

}  // namespace quell
