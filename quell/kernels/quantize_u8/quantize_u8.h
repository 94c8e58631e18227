// f32 rows to unsigned codes: code = clamp(rne(x * inv_scale) + zero_point, 0, max_code), architecture of docs/numerics.md.
#pragma once

#include <cstdint>

#include "quell/base/cpu_features.h"

namespace quell::kernels {

/// Writes `n` codes to `out` and returns their sum. `offset` is added to every stored code (it turns signed codes into u8);
/// `min_code` and `max_code` bound the code before the offset.
struct QuantizeU8Args {
  float inv_scale;
  float zero_point, min_code, max_code, offset;  ///< integers held in f32
};
using QuantizeU8 = std::int32_t (*)(const float* x, std::int64_t n, const QuantizeU8Args& args, std::uint8_t* out);

std::int32_t quantize_u8_reference(const float* x, std::int64_t n, const QuantizeU8Args& args, std::uint8_t* out);
std::int32_t quantize_u8_avx2(const float* x, std::int64_t n, const QuantizeU8Args& args, std::uint8_t* out);

QuantizeU8 choose_quantize_u8(Isa isa);

}  // namespace quell::kernels
