#include "quell/kernels/conv_s8/body_dense.h"
#include "quell/kernels/conv_s8/body_depthwise.h"
#include "quell/kernels/conv_s8/kernels.h"
#include "quell/kernels/conv_s8/products.h"
#include "quell/kernels/conv_s8/vectors_x86.h"

namespace quell::kernels {
namespace {

template <>
struct Register<64> : VectorTypes<64> {
  using Raw = __m512i;

  QUELL_SIMD static I32 broadcast(const std::uint8_t* p) {
    std::int32_t quad;
    std::memcpy(&quad, p, sizeof(quad));
    return (I32)_mm512_set1_epi32(quad);
  }
  QUELL_SIMD static I16 splat_i16(std::int16_t x) { return (I16)_mm512_set1_epi16(x); }
  QUELL_SIMD static U8 splat_u8(std::uint8_t x) {
    return (U8)_mm512_set1_epi8(static_cast<char>(x));
  }
  QUELL_SIMD static F32 to_f32(I32 v) { return _mm512_maskz_cvtepi32_ps(0xffff, (__m512i)v); }
  QUELL_SIMD static F32 min(F32 a, F32 b) { return _mm512_maskz_min_ps(0xffff, a, b); }
  QUELL_SIMD static I32 round(F32 v) { return (I32)_mm512_maskz_cvtps_epi32(0xffff, v); }
  QUELL_SIMD static I16 pack(I32 a, I32 b) {
    return (I16)_mm512_packs_epi32((__m512i)a, (__m512i)b);
  }
  QUELL_SIMD static U8 pack(I16 a, I16 b) {
    return (U8)_mm512_packus_epi16((__m512i)a, (__m512i)b);
  }
  QUELL_SIMD static I16 add(I16 a, I16 b) { return (I16)_mm512_adds_epi16((__m512i)a, (__m512i)b); }
  QUELL_SIMD static U8 min(U8 a, U8 b) { return (U8)_mm512_min_epu8((__m512i)a, (__m512i)b); }
  QUELL_SIMD static U8 max(U8 a, U8 b) { return (U8)_mm512_max_epu8((__m512i)a, (__m512i)b); }
  QUELL_SIMD static U8 in_order(U8 v) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return (U8)_mm512_maskz_permutexvar_epi32(0xffff, order, (__m512i)v);
  }
  QUELL_SIMD static void interleave(U8 t0, U8 t1, U8 t2, U8 t3, U8 (&quads)[4]) {
    const __m512i low01 = _mm512_unpacklo_epi8((__m512i)t0, (__m512i)t1);
    const __m512i low23 = _mm512_unpacklo_epi8((__m512i)t2, (__m512i)t3);
    const __m512i high01 = _mm512_unpackhi_epi8((__m512i)t0, (__m512i)t1);
    const __m512i high23 = _mm512_unpackhi_epi8((__m512i)t2, (__m512i)t3);
    quads[0] = (U8)_mm512_unpacklo_epi16(low01, low23);
    quads[1] = (U8)_mm512_unpackhi_epi16(low01, low23);
    quads[2] = (U8)_mm512_unpacklo_epi16(high01, high23);
    quads[3] = (U8)_mm512_unpackhi_epi16(high01, high23);
  }
  QUELL_SIMD static U8 join(const std::uint8_t* const (&rows)[2]) {
    const __m512i low = _mm512_castsi256_si512(load_256(rows[0]));
    return (U8)_mm512_maskz_inserti64x4(0xff, low, load_256(rows[1]), 1);
  }
  QUELL_SIMD static U8 join(const std::uint8_t* const (&rows)[4]) {
    __m512i v = _mm512_castsi128_si512(load_128(rows[0]));
    v = _mm512_maskz_inserti32x4(0xffff, v, load_128(rows[1]), 1);
    v = _mm512_maskz_inserti32x4(0xffff, v, load_128(rows[2]), 2);
    return (U8)_mm512_maskz_inserti32x4(0xffff, v, load_128(rows[3]), 3);
  }
  template <int kTimes>
  QUELL_SIMD static U8 repeat(const std::int8_t* p) {
    if constexpr (kTimes == 2) return (U8)_mm512_maskz_broadcast_i64x4(0xff, load_256(p));
    return (U8)_mm512_maskz_broadcast_i32x4(0xffff, load_128(p));
  }
  QUELL_SIMD static __m256i load_256(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  QUELL_SIMD static __m128i load_128(const void* p) {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
  }

  // Which lanes and bytes exist, as masks.
  using Lanes = __mmask16;
  using Bytes = std::uint64_t;
  QUELL_SIMD static Lanes some_lanes(std::int64_t count) {
    return static_cast<Lanes>(some_bytes<4>(count));
  }
  template <int kParts>
  QUELL_SIMD static Bytes some_bytes(std::int64_t count) {
    if (count <= 0) return 0;
    if (count >= kSize / kParts) return ~Bytes{0};
    return (Bytes{1} << count) - 1;
  }

  QUELL_SIMD static F32 load_some(const float* p, Lanes lanes) {
    return _mm512_maskz_loadu_ps(lanes, p);
  }
  QUELL_SIMD static F32 u8_to_f32(const std::uint8_t* p, Lanes lanes) {
    return to_f32((I32)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_maskz_loadu_epi8(lanes, p)));
  }
  template <int kParts, int kPart>
  QUELL_SIMD static void store_part(std::uint8_t* p, U8 v, Bytes bytes) {
    const auto all = (__m512i)v;
    if constexpr (kParts == 1)
      _mm512_mask_storeu_epi8(p, bytes, all);
    else if constexpr (kParts == 2)
      _mm256_mask_storeu_epi8(p, static_cast<__mmask32>(bytes),
                              _mm512_maskz_extracti64x4_epi64(0xff, all, kPart));
    else
      _mm_mask_storeu_epi8(p, static_cast<__mmask16>(bytes),
                           _mm512_maskz_extracti32x4_epi32(0xf, all, kPart));
  }
};

QUELL_SIMD __m512i dot_bytes(__m512i sum, __m512i x, __m512i w) {
  return _mm512_dpbusd_epi32(sum, x, w);
}
QUELL_SIMD __m256i dot_bytes(__m256i sum, __m256i x, __m256i w) {
  return _mm256_dpbusd_epi32(sum, x, w);
}
QUELL_SIMD __m128i dot_bytes(__m128i sum, __m128i x, __m128i w) {
  return _mm_dpbusd_epi32(sum, x, w);
}

/// Thirty-two registers: up to 24 sums, of which 64 bytes of codes are packed at a time.
template <int kBytes>
struct Avx512Vnni : ByteOperands<Register<kBytes>> {
  static constexpr int kWidest = 64, kMaxVectors = 4;
  using R = Register<kBytes>;
  static constexpr int rows(int vectors) { return vectors == 4 ? 6 : 8; }

  QUELL_SIMD static typename R::I32 dot(typename R::I32 sum, typename R::U8 x, typename R::U8 w) {
    using Raw = typename R::Raw;
    return (typename R::I32)dot_bytes((Raw)sum, (Raw)x, (Raw)w);
  }
};

}  // namespace

QUELL_DEFINE_CONV_S8(avx512_vnni, Avx512Vnni)

}  // namespace quell::kernels
