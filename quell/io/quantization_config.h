// Section "quantization_config" of config.json: what of it can be read.
#pragma once

#include "quell/io/settings.h"

namespace quell {

/// Throws Error(kUnsupported) naming the method, format or setting of a checkpoint that another tool quantized in a way that Quell
/// does not read. Quell reads compressed-tensors with integer codes, one group of linears, quantized inputs.
void check_quantization_config(const Settings& config);

}  // namespace quell
