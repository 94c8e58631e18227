#include <immintrin.h>

#include "quell/kernels/gemm_u8s8/body_vnni.h"
#include "quell/kernels/gemm_u8s8/kernels.h"

namespace quell::kernels {
namespace {

struct Avx512Vnni {
  using I32 = __m512i;
  using I8 = __m512i;
  static I32 zero() { return _mm512_setzero_si512(); }
  static I8 load(const std::int8_t* p) { return _mm512_loadu_si512(p); }
  static I8 broadcast(std::int32_t quad) { return _mm512_set1_epi32(quad); }
  static I32 dot(I32 sum, I8 x, I8 w) { return _mm512_dpbusd_epi32(sum, x, w); }
  static void store(std::int32_t* p, I32 v, std::int64_t columns) {
    _mm512_mask_storeu_epi32(p, static_cast<__mmask16>((1U << columns) - 1U), v);
  }
};

}  // namespace

QUELL_GEMM_U8S8(gemm_u8s8_avx512_vnni) { vnni_gemm<Avx512Vnni>(x, ldx, w, acc, ldacc, m, n_begin, n_end); }

}  // namespace quell::kernels
