// Four-way products over registers `R` where the processor has only vpmaddwd and vpmaddubsw.
#pragma once

#include "quell/kernels/conv_s8/vectors.h"

namespace quell::kernels {
namespace {

/// Operands as they lie in memory.
template <typename R>
struct ByteOperands : R {
  using Codes = typename R::U8;
  using Weights = typename R::U8;

  QUELL_SIMD static Codes codes(typename R::U8 v) { return v; }
  QUELL_SIMD static Weights weights(typename R::U8 v) { return v; }
};

/// Exact for all codes: the even and the odd bytes of a unit as 16-bit pairs.
template <typename R>
struct WidenedProducts : R {
  struct Codes {
    typename R::I16 even, odd;
  };
  using Weights = Codes;

  QUELL_SIMD static Codes codes(typename R::U8 v) {
    const auto words = (typename R::U16)v;
    return {(typename R::I16)(words & 255), (typename R::I16)(words >> 8)};
  }
  QUELL_SIMD static Weights weights(typename R::U8 v) {
    const auto words = (typename R::I16)v;
    return {(words << 8) >> 8, words >> 8};
  }
  QUELL_SIMD static typename R::I32 dot(typename R::I32 sum, const Codes& x, const Weights& w) {
    return sum + R::madd(x.even, w.even) + R::madd(x.odd, w.odd);
  }
};

/// Exact where 2 * max_x * max|w| <= 32767.
template <typename R>
struct BytePairProducts : ByteOperands<R> {
  QUELL_SIMD static typename R::I32 dot(typename R::I32 sum, typename R::U8 x, typename R::U8 w) {
    return sum + R::madd(R::maddubs(x, w), R::splat_i16(1));
  }
};

}  // namespace
}  // namespace quell::kernels
