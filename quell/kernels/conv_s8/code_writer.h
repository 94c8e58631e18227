// The short way from sums to codes: from registers, without a tile, for the epilogues of most
// convolutions: static steps, codes out, no activation but bounds of the codes, and perhaps a
// residual. Bytes are those of gemm_s8/epilogue.h: the same f32 operations in the same order. Only
// the clamp is spread out: above before rounding, where it is needed against overflow (a whole
// bound commutes with rounding), below in bytes.
#pragma once

#include "quell/kernels/conv_s8/vectors.h"

namespace quell::kernels {
namespace {

enum class CodePath {
  /// No residual, zero point and lower bound 0, as after ReLU, and no value that overflows when it
  /// is rounded: packing clamps.
  kFromZero,
  kPlain,
  kResidualCodes,
  kResidualF32
};

/// Whether the short way gives the bytes that the general one does.
inline bool goes_straight_to_codes(const Epilogue& e) {
  const CodeArgs& a = e.code_args;
  const bool plain = e.codes != nullptr && e.activation == Activation::kNone && !e.gated &&
                     e.row_scale == nullptr && e.weight_zero == nullptr &&
                     e.code_scale == nullptr && e.code_shift == nullptr && e.target == nullptr;
  const bool affine_residual =
      e.residual.column_scale != nullptr || e.residual.column_shift != nullptr;
  // So that nothing saturates in 16 bits that would not be clamped.
  const bool bounds_fit =
      a.low >= 0 && a.low <= a.high && a.high <= 255 && a.zero >= 0 && a.zero <= 1024;
  return plain && bounds_fit && !(e.residual.present() && affine_residual);
}

/// Whether all sums of columns [begin, end) are far from overflowing as rounded codes.
inline bool codes_fit_32_bits(const Epilogue& e, std::int64_t begin, std::int64_t end) {
  bool fit = true;
  for (std::int64_t j = begin; j < end; ++j) {
    const float from_sum = e.scale[j] * e.code_args.inv_scale;  // times 2^31 at most
    const float from_bias = e.bias[j] * e.code_args.inv_scale;
    fit &= from_sum <= 0.25F && from_sum >= -0.25F;
    fit &= from_bias <= 536870912.0F && from_bias >= -536870912.0F;
  }
  return fit;
}

inline CodePath code_path(const Epilogue& e, std::int64_t begin, std::int64_t end) {
  if (e.residual.codes != nullptr) return CodePath::kResidualCodes;
  if (e.residual.f32 != nullptr) return CodePath::kResidualF32;
  const bool from_zero = e.code_args.zero == 0 && e.code_args.low == 0;
  return from_zero && codes_fit_32_bits(e, begin, end) ? CodePath::kFromZero : CodePath::kPlain;
}

/// The epilogue's values as registers. Copies: what is written are bytes, which the compiler takes
/// to alias everything that it could reach through a reference.
template <typename V>
struct CodeWriter {
  using F32 = typename V::F32;
  using I32 = typename V::I32;

  std::uint8_t* codes;
  std::int64_t ld_out;
  F32 inv_scale, highest;
  typename V::I16 zero;
  typename V::U8 low, high;
  const std::uint8_t* residual_codes;
  const float* residual_f32;
  std::int64_t ld_residual;
  F32 residual_zero, residual_scale;

  QUELL_SIMD explicit CodeWriter(const Epilogue& e)
      : codes(e.codes),
        ld_out(e.ld_out),
        inv_scale(V::splat(e.code_args.inv_scale)),
        highest(V::splat(static_cast<float>(e.code_args.high - e.code_args.zero))),
        zero(V::splat_i16(static_cast<std::int16_t>(e.code_args.zero))),
        low(V::splat_u8(static_cast<std::uint8_t>(e.code_args.low))),
        high(V::splat_u8(static_cast<std::uint8_t>(e.code_args.high))),
        residual_codes(e.residual.codes),
        residual_f32(e.residual.f32),
        ld_residual(e.residual.ld),
        residual_zero(V::splat(e.residual.zero)),
        residual_scale(V::splat(e.residual.scale)) {}

  /// Codes before the zero point is added. `at`: of the residual; `lanes`: columns that exist.
  template <CodePath kPath>
  QUELL_SIMD I32 rounded(I32 sum, F32 scale, F32 bias, std::int64_t at,
                         typename V::Lanes lanes) const {
    F32 v = scale * V::to_f32(sum) + bias;
    if constexpr (kPath == CodePath::kResidualCodes)
      v = v + (V::u8_to_f32(residual_codes + at, lanes) - residual_zero) * residual_scale;
    if constexpr (kPath == CodePath::kResidualF32) v = v + V::load_some(residual_f32 + at, lanes);
    v = v * inv_scale;
    if constexpr (kPath != CodePath::kFromZero) v = V::min(v, highest);
    return V::round(v);
  }

  /// The codes of four vectors, by lanes.
  template <CodePath kPath>
  QUELL_SIMD typename V::U8 packed(I32 a, I32 b, I32 c, I32 d) const {
    if constexpr (kPath == CodePath::kFromZero)
      return V::min(V::pack(V::pack(a, b), V::pack(c, d)), high);
    else
      return V::max(V::pack(V::add(V::pack(a, b), zero), V::add(V::pack(c, d), zero)), low);
  }

  QUELL_SIMD std::uint8_t* out(std::int64_t row, std::int64_t column) const {
    return codes + row * ld_out + column;
  }
};

}  // namespace
}  // namespace quell::kernels
