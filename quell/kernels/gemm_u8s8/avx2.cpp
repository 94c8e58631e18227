#include <immintrin.h>

#include "quell/kernels/gemm_u8s8/body_avx2.h"
#include "quell/kernels/gemm_u8s8/kernels.h"

namespace quell::kernels {
namespace {

struct Avx2 {
  using I32 = __m256i;
  using I16 = __m256i;
  using I8 = __m256i;
  static I32 zero() { return _mm256_setzero_si256(); }
  static I32 add(I32 a, I32 b) { return _mm256_add_epi32(a, b); }
  static void store(std::int32_t* p, I32 v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static I8 load(const std::int8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static I8 broadcast(std::int32_t quad) { return _mm256_set1_epi32(quad); }
  static I16 broadcast_u8x4(const std::uint8_t* p) {
    std::int32_t quad;
    std::memcpy(&quad, p, sizeof(quad));
    return _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(quad)));
  }
  static I16 widen_s8x16(const std::int8_t* p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static I32 madd(I16 a, I16 b) { return _mm256_madd_epi16(a, b); }
  static I16 maddubs(I8 x, I8 w) { return _mm256_maddubs_epi16(x, w); }
  static I32 add_pairs(I16 v) { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }
};

}  // namespace

QUELL_GEMM_U8S8(gemm_u8s8_avx2_widen) { avx2_gemm<Avx2, true>(x, ldx, w, acc, ldacc, m, n_begin, n_end); }
QUELL_GEMM_U8S8(gemm_u8s8_avx2_maddubs) { avx2_gemm<Avx2, false>(x, ldx, w, acc, ldacc, m, n_begin, n_end); }

}  // namespace quell::kernels
