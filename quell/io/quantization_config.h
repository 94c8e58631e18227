// Section "quantization_config" of config.json, and the key of ParetoQ: what of them can be read.
#pragma once

#include <optional>
#include <string>
#include <vector>

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
/// codes, one group of linears, quantized inputs; and what the functions below read.
void check_quantization_config(const Settings& config);

/// How linears of BitNet b1.58 are stored (transformers, quant_method "bitnet").
struct BitNetSettings {
  enum class Weights {
    kDividedByScale,  ///< codes; a weight is code / weight_scale (linear_class "bitlinear")
    kTimesScale,      ///< codes; code * weight_scale, as the bias is (quantization_mode "offline")
    kFloats,          ///< floats, whose codes are made when they are read ("online")
  };
  Weights weights = Weights::kDividedByScale;
  /// Key modules_to_not_convert; nothing: the head of the class.
  std::optional<std::vector<std::string>> float_modules;
};
/// Nothing where the section is missing or of another method. Throws Error(kUnsupported) naming
/// what is not supported.
std::optional<BitNetSettings> read_bitnet_settings(const Settings& config);

/// Bits of the weights of a model trained by ParetoQ (key w_bits): 1 to 4, or 0 for ternary ones.
/// Nothing where they are floats. Throws Error(kUnsupported) naming any other value.
std::optional<int> read_paretoq_bits(const Settings& config);

}  // namespace quell
