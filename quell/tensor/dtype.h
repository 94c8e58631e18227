// Element types of tensors, with the names safetensors gives them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "quell/base/bf16.h"

namespace quell {

enum class DType { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };

std::size_t dtype_size(DType dtype);
std::string_view dtype_name(DType dtype);  // "F32", "BF16", ...
std::optional<DType> dtype_from_name(std::string_view name);

float f16_to_f32(std::uint16_t bits);
/// Round half to even, overflow to infinity.
std::uint16_t f32_to_f16(float value);
/// The nearest f16 or bf16; any other type leaves the value alone.
inline float round_to(DType dtype, float value) {
  if (dtype == DType::kF16) return f16_to_f32(f32_to_f16(value));
  if (dtype == DType::kBF16) return bf16_to_f32(f32_to_bf16(value));
  return value;
}

}  // namespace quell
