#include <immintrin.h>

#include "quell/kernels/gemm_s8/body_vnni.h"
#include "quell/kernels/gemm_s8/kernels.h"

namespace quell::kernels {
namespace {

struct Avx512Vnni {
  static constexpr int kWidth = 16, kRows = 12;
  using I32 = __m512i;
  using I8 = __m512i;
  static I32 zero() { return _mm512_setzero_si512(); }
  static I8 load(const std::int8_t* p) { return _mm512_loadu_si512(p); }
  static I8 broadcast(const std::uint8_t* p) {
    std::int32_t quad;
    std::memcpy(&quad, p, sizeof(quad));
    return _mm512_set1_epi32(quad);
  }
  static I32 dot(I32 sum, I8 x, I8 w) { return _mm512_dpbusd_epi32(sum, x, w); }
  static void store(std::int32_t* p, I32 v) { _mm512_storeu_si512(p, v); }
  /// Sign-extended by a table of sixteen bytes.
  static I8 extend(I8 nibbles) {
    const __m128i table = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
    return _mm512_shuffle_epi8(_mm512_maskz_broadcast_i32x4(0xffff, table), nibbles);
  }
  static I8 low_nibbles(I8 v) { return extend(_mm512_and_si512(v, _mm512_set1_epi8(15))); }
  static I8 high_nibbles(I8 v) {
    return extend(
        _mm512_and_si512(_mm512_maskz_srli_epi16(0xffffffff, v, 4), _mm512_set1_epi8(15)));
  }
  /// Quad kQuad of four, sign-extended: a nibble has two, and a table of sixteen bytes for each.
  template <int kQuad>
  static I8 crumbs(I8 v) {
    const __m128i first = _mm_setr_epi8(0, 1, -2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1, -2, -1),
                  second = _mm_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, -2, -2, -2, -2, -1, -1, -1, -1);
    const I8 low = kQuad < 2 ? v : _mm512_maskz_srli_epi16(0xffffffff, v, 4);
    return _mm512_shuffle_epi8(_mm512_maskz_broadcast_i32x4(0xffff, kQuad % 2 ? second : first),
                               _mm512_and_si512(low, _mm512_set1_epi8(15)));
  }
};

}  // namespace

QUELL_GEMM_S8(gemm_s8_avx512_vnni) { vnni_gemm<Avx512Vnni, 8>(QUELL_GEMM_S8_ARGS); }
QUELL_GEMM_S8(gemm_s8_avx512_vnni_nibbles) { vnni_gemm<Avx512Vnni, 4>(QUELL_GEMM_S8_ARGS); }
QUELL_GEMM_S8(gemm_s8_avx512_vnni_crumbs) { vnni_crumbs_gemm<Avx512Vnni>(QUELL_GEMM_S8_ARGS); }

}  // namespace quell::kernels
