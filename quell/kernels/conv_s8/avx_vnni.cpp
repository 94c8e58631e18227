#include "quell/kernels/conv_s8/body_dense.h"
#include "quell/kernels/conv_s8/body_depthwise.h"
#include "quell/kernels/conv_s8/kernels.h"
#include "quell/kernels/conv_s8/products.h"
#include "quell/kernels/conv_s8/vectors_x86.h"

namespace quell::kernels {
namespace {

QUELL_SIMD __m256i dot_bytes(__m256i sum, __m256i x, __m256i w) {
  return _mm256_dpbusd_avx_epi32(sum, x, w);
}
QUELL_SIMD __m128i dot_bytes(__m128i sum, __m128i x, __m128i w) {
  return _mm_dpbusd_avx_epi32(sum, x, w);
}

template <int kBytes>
struct AvxVnni : ByteOperands<Register<kBytes>> {
  static constexpr int kWidest = 32, kMaxVectors = 2;
  using R = Register<kBytes>;
  static constexpr int rows(int) { return 4; }

  QUELL_SIMD static typename R::I32 dot(typename R::I32 sum, typename R::U8 x, typename R::U8 w) {
    using Raw = typename R::Raw;
    return (typename R::I32)dot_bytes((Raw)sum, (Raw)x, (Raw)w);
  }
};

}  // namespace

QUELL_DEFINE_CONV_S8(avx_vnni, AvxVnni)

}  // namespace quell::kernels
