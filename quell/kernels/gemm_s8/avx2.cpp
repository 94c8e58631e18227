#include "quell/kernels/gemm_s8/avx2_ops.h"
#include "quell/kernels/gemm_s8/body_avx2.h"
#include "quell/kernels/gemm_s8/kernels.h"

namespace quell::kernels {
namespace {

struct Avx2 : Vector256 {
  using I16 = __m256i;
  static I32 add(I32 a, I32 b) { return _mm256_add_epi32(a, b); }
  static I16 add16(I16 a, I16 b) { return _mm256_add_epi16(a, b); }
  static I16 broadcast_pair(const std::int16_t* p) {
    return broadcast(reinterpret_cast<const std::uint8_t*>(p));
  }
  static I16 widen_s8x16(const std::int8_t* p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void keep(__m256i& v) { __asm__("" : "+x"(v)); }
  static I32 madd(I16 a, I16 b) { return _mm256_madd_epi16(a, b); }
  static I16 maddubs(I8 x, I8 w) { return _mm256_maddubs_epi16(x, w); }
  static I32 add_pairs(I16 v) { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }
};

}  // namespace

QUELL_GEMM_S8(gemm_s8_avx2_widen) { widen_gemm<Avx2>(QUELL_GEMM_S8_ARGS); }
QUELL_GEMM_S8(gemm_s8_avx2_maddubs) { maddubs_gemm<Avx2, 4, 1, false>(QUELL_GEMM_S8_ARGS); }
QUELL_GEMM_S8(gemm_s8_avx2_maddubs2) { maddubs_gemm<Avx2, 4, 2, false>(QUELL_GEMM_S8_ARGS); }
QUELL_GEMM_S8(gemm_s8_avx2_maddubs8) { maddubs_gemm<Avx2, 3, 8, false>(QUELL_GEMM_S8_ARGS); }
QUELL_GEMM_S8(gemm_s8_avx2_maddubs16) { maddubs_gemm<Avx2, 3, 16, false>(QUELL_GEMM_S8_ARGS); }
QUELL_GEMM_S8(gemm_s8_avx2_nibbles) { maddubs_gemm<Avx2, 3, 8, true>(QUELL_GEMM_S8_ARGS); }
QUELL_GEMM_S8(gemm_s8_avx2_crumbs8) { crumbs_gemm<Avx2, 3, 8>(QUELL_GEMM_S8_ARGS); }
QUELL_GEMM_S8(gemm_s8_avx2_crumbs16) { crumbs_gemm<Avx2, 3, 16>(QUELL_GEMM_S8_ARGS); }

}  // namespace quell::kernels
