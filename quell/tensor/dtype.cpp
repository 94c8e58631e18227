#include "quell/tensor/dtype.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace quell {
namespace {
struct Row {
  DType dtype;
  std::size_t size;
  std::string_view name;
};
constexpr Row kRows[] = {{DType::kF64, 8, "F64"}, {DType::kF32, 4, "F32"},
                         {DType::kF16, 2, "F16"}, {DType::kBF16, 2, "BF16"},
                         {DType::kI64, 8, "I64"}, {DType::kI32, 4, "I32"},
                         {DType::kI16, 2, "I16"}, {DType::kI8, 1, "I8"},
                         {DType::kU8, 1, "U8"},   {DType::kBool, 1, "BOOL"}};
}  // namespace

std::size_t dtype_size(DType dtype) { return kRows[static_cast<int>(dtype)].size; }
std::string_view dtype_name(DType dtype) { return kRows[static_cast<int>(dtype)].name; }

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const Row& row : kRows)
    if (row.name == name) return row.dtype;
  return std::nullopt;
}

/// Between the biases of the exponents of f32 and f16.
constexpr std::uint32_t kRebias = 127 - 15;

float f16_to_f32(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000U) << 16, magnitude = bits & 0x7fffU;
  float value;
  if (magnitude >= 0x7c00U)
    value = magnitude > 0x7c00U ? std::nanf("") : INFINITY;
  else if (magnitude < 0x400U)
    value = static_cast<float>(magnitude) * 0x1.0p-24F;
  else
    value = std::bit_cast<float>((magnitude << 13) + (kRebias << 23));
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
}

std::uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U, magnitude = bits & 0x7fffffffU;
  const auto with_sign = [&](std::uint32_t half) {
    return static_cast<std::uint16_t>(sign | half);
  };
  if (std::isnan(value)) return with_sign(0x7e00U);
  if (magnitude >= std::bit_cast<std::uint32_t>(65520.0F)) return with_sign(0x7c00U);
  if (magnitude <
      std::bit_cast<std::uint32_t>(
          0x1.0p-14F))  // between 0.5 and 1 floats are as far apart as the smallest halves
    return with_sign(std::bit_cast<std::uint32_t>(std::fabs(value) + 0.5F) -
                     std::bit_cast<std::uint32_t>(0.5F));
  return with_sign(((magnitude + 0xfffU + ((magnitude >> 13) & 1U)) >> 13) - (kRebias << 10));
}

}  // namespace quell
