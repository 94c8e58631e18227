// What the vectors of all ISAs have in common. A kernel text takes `template <int kBytes> class
// Vectors`: registers of 64, 32 and 16 bytes with
//   I32, F32, U8, I16         the register as lanes of these types
//   Codes, Weights            operands of a product: u8 and s8 in units of four
//   dot(sum, codes, weights)  four products to each int32 lane
//   interleave                four rows of bytes to units of four, one of each row; by lanes of 16
//                             bytes, as the processor unpacks
//   pack                      two vectors to one of half the width, saturating, by lanes of 16
//                             bytes: int32 to int16, int16 to u8
//   in_order                  the order of four vectors packed to one undone
//   join, repeat              a register of several rows of bytes, or of one several times
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "quell/kernels/conv_s8/conv_s8.h"
#include "quell/kernels/gemm_s8/epilogue.h"

namespace quell::kernels {
namespace {

/// body(0) .. body(kCount - 1), each with its index as a constant. Loops are unrolled too late for
/// the compiler to keep arrays of vectors in registers.
template <int kCount, typename Body>
QUELL_SIMD void unrolled(Body body) {
  [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) __attribute__((always_inline)) {
    (body(std::integral_constant<int, kIndex>{}), ...);
  }
  (std::make_integer_sequence<int, kCount>{});
}
template <int kIndex>
using Index = std::integral_constant<int, kIndex>;
#if defined(__SANITIZE_ADDRESS__)  // inlined and instrumented, a kernel takes minutes to compile
#define QUELL_UNROLLED(index) [&](auto index)
#else
#define QUELL_UNROLLED(index) [&](auto index) __attribute__((always_inline))
#endif

template <int kBytes>
struct VectorTypes {
  static constexpr int kSize = kBytes, kWidth = kBytes / 4;
  using I32 [[gnu::vector_size(kBytes)]] = std::int32_t;
  using F32 [[gnu::vector_size(kBytes)]] = float;
  using U8 [[gnu::vector_size(kBytes)]] = std::uint8_t;
  using I16 [[gnu::vector_size(kBytes)]] = std::int16_t;
  using U16 [[gnu::vector_size(kBytes)]] = std::uint16_t;

  template <typename Vector>
  QUELL_SIMD static Vector load(const void* p) {
    Vector v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  template <typename Vector>
  QUELL_SIMD static void store(void* p, const Vector& v) {
    std::memcpy(p, &v, sizeof(v));
  }
  QUELL_SIMD static F32 splat(float x) { return F32{} + x; }

  // Which lanes, and which bytes of a part of the register, exist: here by their number.
  using Lanes = std::int64_t;
  using Bytes = std::int64_t;
  QUELL_SIMD static Lanes some_lanes(std::int64_t count) { return count; }
  template <int kParts>
  QUELL_SIMD static Bytes some_bytes(std::int64_t count) {
    return count < kBytes / kParts ? count : kBytes / kParts;
  }

  /// The other lanes are 0.
  QUELL_SIMD static F32 load_some(const float* p, Lanes lanes) {
    if (lanes >= kWidth) return load<F32>(p);
    float x[kWidth] = {};
    std::memcpy(x, p, static_cast<std::size_t>(lanes) * sizeof(float));
    return load<F32>(x);
  }
  /// The first `count` bytes of part `kPart` of `kParts`.
  template <int kParts, int kPart>
  QUELL_SIMD static void store_some(std::uint8_t* p, U8 v, Bytes count) {
    std::uint8_t bytes[kBytes];
    store(bytes, v);
    std::memcpy(p, bytes + kPart * (kBytes / kParts), static_cast<std::size_t>(count));
  }
};

}  // namespace
}  // namespace quell::kernels
