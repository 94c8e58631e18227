// Linears of BitNet b1.58 (Ma et al. 2024) as transformers publishes them: weights -1, 0 and 1
// times one step a tensor, inputs of 8 bits with a step a token.
//
// Codes [out, in] lie in "<module>.weight", either as floats, or packed: U8 [out / 4, in], whose
// byte in row r holds code + 1 of rows r, r + out / 4, r + 2 out / 4 and r + 3 out / 4, two bits
// each from the lowest on. "<module>.weight_scale" has one element.
#pragma once

#include "quell/io/quantization_config.h"
#include "quell/model/quantized_layout.h"

namespace quell {

/// Keeps a reference to `checkpoint`.
std::unique_ptr<QuantizedLayout> make_bitnet_layout(const Checkpoint& checkpoint,
                                                    BitNetSettings settings);

/// Codes and step of a float weight [rows, columns]: w / s rounded and clamped to -1 .. 1, where s,
/// the step, is the mean of |w|, at least 1e-5.
QTensor quantize_by_mean(const TensorView& weight);

}  // namespace quell
