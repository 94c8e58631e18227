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
constexpr Row kRows[] = {{DType::kF64, 8, "F64"}, {DType::kF32, 4, "F32"},  {DType::kF16, 2, "F16"}, {DType::kBF16, 2, "BF16"},
                         {DType::kI64, 8, "I64"}, {DType::kI32, 4, "I32"},  {DType::kI16, 2, "I16"}, {DType::kI8, 1, "I8"},
                         {DType::kU8, 1, "U8"},   {DType::kBool, 1, "BOOL"}};
}  // namespace

std::size_t dtype_size(DType dtype) { return kRows[static_cast<int>(dtype)].size; }
std::string_view dtype_name(DType dtype) { return kRows[static_cast<int>(dtype)].name; }

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const Row& row : kRows)
    if (row.name == name) return row.dtype;
  return std::nullopt;
}

float f16_to_f32(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f;
  const int mantissa = bits & 0x3ff;
  float value;
  if (exponent == 0x1f)
    value = mantissa ? std::nanf("") : INFINITY;
  else if (exponent == 0)
    value = std::ldexp(static_cast<float>(mantissa), -24);
  else
    value = std::ldexp(static_cast<float>(mantissa | 0x400), exponent - 25);
  return (bits & 0x8000) ? -value : value;
}

std::uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7e00U);
  if (magnitude >= 65520.0F) return static_cast<std::uint16_t>(sign | 0x7c00U);
  int exponent = 0;
  std::frexp(magnitude, &exponent);              // magnitude = m * 2^exponent, m in [0.5, 1)
  const int ulp = std::max(exponent - 11, -24);  // exponent of the last kept bit
  const double steps = std::nearbyint(std::ldexp(static_cast<double>(magnitude), -ulp));
  const double rounded = std::ldexp(steps, ulp);
  if (rounded < 0x1.0p-14) return static_cast<std::uint16_t>(sign | static_cast<unsigned>(std::ldexp(rounded, 24)));
  std::frexp(rounded, &exponent);
  const auto mantissa = static_cast<unsigned>(std::ldexp(rounded, 11 - exponent)) & 0x3ffU;
  return static_cast<std::uint16_t>(sign | (static_cast<unsigned>(exponent + 14) << 10) | mantissa);
}

}  // namespace quell
