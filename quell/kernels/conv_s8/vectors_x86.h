// Registers of 32 and 16 bytes on AVX2, and what its products look like: shared by the files whose
// ISA has at least that.
#pragma once

#include <immintrin.h>

#include "quell/kernels/conv_s8/vectors.h"

namespace quell::kernels {
namespace {

template <int kBytes>
struct Register;

template <>
struct Register<32> : VectorTypes<32> {
  using Raw = __m256i;

  QUELL_SIMD static I32 broadcast(const std::uint8_t* p) {
    std::int32_t quad;
    std::memcpy(&quad, p, sizeof(quad));
    return (I32)_mm256_set1_epi32(quad);
  }
  QUELL_SIMD static I16 splat_i16(std::int16_t x) { return (I16)_mm256_set1_epi16(x); }
  QUELL_SIMD static U8 splat_u8(std::uint8_t x) {
    return (U8)_mm256_set1_epi8(static_cast<char>(x));
  }
  QUELL_SIMD static F32 to_f32(I32 v) { return _mm256_cvtepi32_ps((__m256i)v); }
  QUELL_SIMD static F32 min(F32 a, F32 b) { return _mm256_min_ps(a, b); }
  QUELL_SIMD static I32 round(F32 v) { return (I32)_mm256_cvtps_epi32(v); }
  QUELL_SIMD static I32 madd(I16 a, I16 b) {
    return (I32)_mm256_madd_epi16((__m256i)a, (__m256i)b);
  }
  QUELL_SIMD static I16 maddubs(U8 a, U8 b) {
    return (I16)_mm256_maddubs_epi16((__m256i)a, (__m256i)b);
  }
  QUELL_SIMD static I16 pack(I32 a, I32 b) {
    return (I16)_mm256_packs_epi32((__m256i)a, (__m256i)b);
  }
  QUELL_SIMD static U8 pack(I16 a, I16 b) {
    return (U8)_mm256_packus_epi16((__m256i)a, (__m256i)b);
  }
  QUELL_SIMD static I16 add(I16 a, I16 b) { return (I16)_mm256_adds_epi16((__m256i)a, (__m256i)b); }
  QUELL_SIMD static U8 min(U8 a, U8 b) { return (U8)_mm256_min_epu8((__m256i)a, (__m256i)b); }
  QUELL_SIMD static U8 max(U8 a, U8 b) { return (U8)_mm256_max_epu8((__m256i)a, (__m256i)b); }
  QUELL_SIMD static U8 in_order(U8 v) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return (U8)_mm256_permutevar8x32_epi32((__m256i)v, order);
  }
  QUELL_SIMD static void interleave(U8 t0, U8 t1, U8 t2, U8 t3, U8 (&quads)[4]) {
    const __m256i low01 = _mm256_unpacklo_epi8((__m256i)t0, (__m256i)t1);
    const __m256i low23 = _mm256_unpacklo_epi8((__m256i)t2, (__m256i)t3);
    const __m256i high01 = _mm256_unpackhi_epi8((__m256i)t0, (__m256i)t1);
    const __m256i high23 = _mm256_unpackhi_epi8((__m256i)t2, (__m256i)t3);
    quads[0] = (U8)_mm256_unpacklo_epi16(low01, low23);
    quads[1] = (U8)_mm256_unpackhi_epi16(low01, low23);
    quads[2] = (U8)_mm256_unpacklo_epi16(high01, high23);
    quads[3] = (U8)_mm256_unpackhi_epi16(high01, high23);
  }
  QUELL_SIMD static U8 join(const std::uint8_t* const (&rows)[2]) {
    return (U8)_mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(rows[1]),
                                   reinterpret_cast<const __m128i*>(rows[0]));
  }
  template <int kTimes>
  QUELL_SIMD static U8 repeat(const std::int8_t* p) {
    static_assert(kTimes == 2);
    return (U8)_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  QUELL_SIMD static F32 u8_to_f32(const std::uint8_t* p, Lanes lanes) {
    std::uint64_t bytes = 0;
    if (lanes >= kWidth)
      std::memcpy(&bytes, p, sizeof(bytes));
    else
      std::memcpy(&bytes, p, static_cast<std::size_t>(lanes));
    return to_f32((I32)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(bytes))));
  }
  /// Part `kPart` of `kParts` equal ones, or the first `count` bytes of it.
  template <int kParts, int kPart>
  QUELL_SIMD static void store_part(std::uint8_t* p, U8 v, Bytes count) {
    if (count < kSize / kParts) return store_some<kParts, kPart>(p, v, count);
    const __m128i half = _mm256_extracti128_si256((__m256i)v, kPart >= kParts / 2);
    if constexpr (kParts == 1)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
    else if constexpr (kParts == 2)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), half);
    else if constexpr (kPart % 2 == 0)
      _mm_storel_epi64(reinterpret_cast<__m128i*>(p), half);
    else
      _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_unpackhi_epi64(half, half));
  }
};

/// Only blocks of 16 channels of depthwise filters need this one: no rows in parts.
template <>
struct Register<16> : VectorTypes<16> {
  using Raw = __m128i;

  QUELL_SIMD static I16 splat_i16(std::int16_t x) { return (I16)_mm_set1_epi16(x); }
  QUELL_SIMD static U8 splat_u8(std::uint8_t x) { return (U8)_mm_set1_epi8(static_cast<char>(x)); }
  QUELL_SIMD static F32 to_f32(I32 v) { return _mm_cvtepi32_ps((__m128i)v); }
  QUELL_SIMD static F32 min(F32 a, F32 b) { return _mm_min_ps(a, b); }
  QUELL_SIMD static I32 round(F32 v) { return (I32)_mm_cvtps_epi32(v); }
  QUELL_SIMD static I32 madd(I16 a, I16 b) { return (I32)_mm_madd_epi16((__m128i)a, (__m128i)b); }
  QUELL_SIMD static I16 maddubs(U8 a, U8 b) {
    return (I16)_mm_maddubs_epi16((__m128i)a, (__m128i)b);
  }
  QUELL_SIMD static I16 pack(I32 a, I32 b) { return (I16)_mm_packs_epi32((__m128i)a, (__m128i)b); }
  QUELL_SIMD static U8 pack(I16 a, I16 b) { return (U8)_mm_packus_epi16((__m128i)a, (__m128i)b); }
  QUELL_SIMD static I16 add(I16 a, I16 b) { return (I16)_mm_adds_epi16((__m128i)a, (__m128i)b); }
  QUELL_SIMD static U8 min(U8 a, U8 b) { return (U8)_mm_min_epu8((__m128i)a, (__m128i)b); }
  QUELL_SIMD static U8 max(U8 a, U8 b) { return (U8)_mm_max_epu8((__m128i)a, (__m128i)b); }
  QUELL_SIMD static void interleave(U8 t0, U8 t1, U8 t2, U8 t3, U8 (&quads)[4]) {
    const __m128i low01 = _mm_unpacklo_epi8((__m128i)t0, (__m128i)t1);
    const __m128i low23 = _mm_unpacklo_epi8((__m128i)t2, (__m128i)t3);
    const __m128i high01 = _mm_unpackhi_epi8((__m128i)t0, (__m128i)t1);
    const __m128i high23 = _mm_unpackhi_epi8((__m128i)t2, (__m128i)t3);
    quads[0] = (U8)_mm_unpacklo_epi16(low01, low23);
    quads[1] = (U8)_mm_unpackhi_epi16(low01, low23);
    quads[2] = (U8)_mm_unpacklo_epi16(high01, high23);
    quads[3] = (U8)_mm_unpackhi_epi16(high01, high23);
  }
  template <int kParts, int kPart>
  QUELL_SIMD static void store_part(std::uint8_t* p, U8 v, Bytes count) {
    static_assert(kParts == 1);
    count < kSize ? store_some<1, 0>(p, v, count) : store(p, v);
  }
};

}  // namespace
}  // namespace quell::kernels
