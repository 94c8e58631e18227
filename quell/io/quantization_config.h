// Section "quantization_config" of config.json: what of it can be read.
#pragma once

#include "quell/io/settings.h"

namespace quell {

/// Formats of files that hold what no other reader of compressed-tensors knows; those refuse the
/// names.
inline constexpr const char* kOwnIntFormat = "quell-int-quantized";
inline constexpr const char* kOwnPackedFormat = "quell-pack-quantized";

/// Whether Quell reads codes in `format` of compressed-tensors, or in one of its own.
bool is_known_format(const std::string& format);

/// Throws Error(kUnsupported) naming the method, format or setting of a checkpoint that another
/// tool quantized in a way that Quell does not read. Quell reads compressed-tensors with integer
/// codes, one group of linears, quantized inputs.
void check_quantization_config(const Settings& config);

}  // namespace quell
