// Sixteen f32 or int32 lanes as compiler vectors, so that one kernel text serves every ISA: the
// file that includes it decides by its flags what the lanes become. Everything has internal
// linkage: code compiled with ISA flags must not leak into other units. Additions and
// multiplications are never fused (-ffp-contract=off), so all ISAs give the same bits.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define QUELL_SIMD [[maybe_unused, gnu::always_inline]] inline

namespace quell::kernels {
namespace {

inline constexpr std::int64_t kLanes = 16;

// One register's worth of lanes, by the flags of the including file; a value is as many of them as
// make sixteen lanes.
#if defined(__AVX512F__)
inline constexpr int kRegisterBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kRegisterBytes = 32;
#else
inline constexpr int kRegisterBytes = 16;
#endif
inline constexpr int kParts = 64 / kRegisterBytes;
using RegisterF32 [[gnu::vector_size(kRegisterBytes)]] = float;
using RegisterI32 [[gnu::vector_size(kRegisterBytes)]] = std::int32_t;

struct F32 {
  RegisterF32 part[kParts];
};
struct I32 {
  RegisterI32 part[kParts];
};

template <typename Out, typename F>
QUELL_SIMD Out by_part(F f) {
  Out out;
  for (int i = 0; i < kParts; ++i) out.part[i] = f(i);
  return out;
}

QUELL_SIMD F32 load(const float* p) {
  F32 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
QUELL_SIMD I32 load(const std::int32_t* p) {
  I32 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
QUELL_SIMD void store(float* p, const F32& v) { std::memcpy(p, &v, sizeof(v)); }
QUELL_SIMD void store(std::int32_t* p, const I32& v) { std::memcpy(p, &v, sizeof(v)); }
/// The first `n` < 16 elements; the other lanes are 0.
QUELL_SIMD F32 load_some(const float* p, std::int64_t n) {
  float x[kLanes] = {};
  std::memcpy(x, p, static_cast<std::size_t>(n) * sizeof(float));
  return load(x);
}
QUELL_SIMD void store_some(float* p, const F32& v, std::int64_t n) {
  float x[kLanes];
  store(x, v);
  std::memcpy(p, x, static_cast<std::size_t>(n) * sizeof(float));
}
QUELL_SIMD F32 splat(float x) {
  return by_part<F32>([&](int) { return RegisterF32{} + x; });
}
QUELL_SIMD I32 splat(std::int32_t x) {
  return by_part<I32>([&](int) { return RegisterI32{} + x; });
}

#define QUELL_SIMD_OPERATOR(V, S, op)                                 \
  QUELL_SIMD V operator op(const V& a, const V& b) {                  \
    return by_part<V>([&](int i) { return a.part[i] op b.part[i]; }); \
  }                                                                   \
  QUELL_SIMD V operator op(const V& a, S b) { return a op splat(b); } \
  QUELL_SIMD V operator op(S a, const V& b) { return splat(a) op b; }
QUELL_SIMD_OPERATOR(F32, float, +)
QUELL_SIMD_OPERATOR(F32, float, -)
QUELL_SIMD_OPERATOR(F32, float, *)
QUELL_SIMD_OPERATOR(F32, float, /)
QUELL_SIMD_OPERATOR(I32, std::int32_t, +)
QUELL_SIMD_OPERATOR(I32, std::int32_t, -)
QUELL_SIMD_OPERATOR(I32, std::int32_t, *)
QUELL_SIMD_OPERATOR(I32, std::int32_t, &)
QUELL_SIMD_OPERATOR(I32, std::int32_t, |)
#undef QUELL_SIMD_OPERATOR
QUELL_SIMD I32 operator<<(const I32& a, int bits) {
  return by_part<I32>([&](int i) { return a.part[i] << bits; });
}

QUELL_SIMD RegisterF32 register_min(const RegisterF32& a, const RegisterF32& b) {
#if defined(__AVX512F__)
  return _mm512_maskz_min_ps(0xffff, a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#elif defined(__SSE2__)
  return _mm_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}
QUELL_SIMD RegisterF32 register_max(const RegisterF32& a, const RegisterF32& b) {
#if defined(__AVX512F__)
  return _mm512_maskz_max_ps(0xffff, a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#elif defined(__SSE2__)
  return _mm_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
/// a < b ? a : b, also for NaN.
QUELL_SIMD F32 min(const F32& a, const F32& b) {
  return by_part<F32>([&](int i) { return register_min(a.part[i], b.part[i]); });
}
QUELL_SIMD F32 max(const F32& a, const F32& b) {
  return by_part<F32>([&](int i) { return register_max(a.part[i], b.part[i]); });
}
QUELL_SIMD F32 to_f32(const I32& v) {
  return by_part<F32>([&](int i) { return __builtin_convertvector(v.part[i], RegisterF32); });
}
/// Of whole numbers.
QUELL_SIMD I32 to_i32(const F32& v) {
  return by_part<I32>([&](int i) { return __builtin_convertvector(v.part[i], RegisterI32); });
}
QUELL_SIMD F32 bits_to_f32(const I32& v) {
  return by_part<F32>([&](int i) { return (RegisterF32)v.part[i]; });
}
QUELL_SIMD I32 f32_to_bits(const F32& v) {
  return by_part<I32>([&](int i) { return (RegisterI32)v.part[i]; });
}
QUELL_SIMD F32 abs(const F32& v) { return bits_to_f32(f32_to_bits(v) & 0x7fffffff); }
QUELL_SIMD F32 copysign(const F32& magnitude, const F32& sign) {
  return bits_to_f32((f32_to_bits(magnitude) & 0x7fffffff) |
                     (f32_to_bits(sign) & static_cast<std::int32_t>(0x80000000)));
}
/// Whether all lanes are below `x`.
QUELL_SIMD bool all_below(const F32& v, float x) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(v.part[0], splat(x).part[0], _CMP_NLT_UQ) == 0;
#elif defined(__AVX2__)
  const RegisterF32 bound = splat(x).part[0];
  return (_mm256_movemask_ps(_mm256_cmp_ps(v.part[0], bound, _CMP_NLT_UQ)) |
          _mm256_movemask_ps(_mm256_cmp_ps(v.part[1], bound, _CMP_NLT_UQ))) == 0;
#else
  float lanes[kLanes];
  std::memcpy(lanes, &v, sizeof(lanes));
  for (const float lane : lanes)
    if (!(lane < x)) return false;
  return true;
#endif
}
/// v where mask is not 0, else 0.
QUELL_SIMD F32 keep_where(const I32& mask, const F32& v) {
  return by_part<F32>(
      [&](int i) { return (RegisterF32)((RegisterI32)v.part[i] & (mask.part[i] != 0)); });
}
/// v where mask is not 0, else `other`.
QUELL_SIMD F32 select(const I32& mask, const F32& v, const F32& other) {
  return by_part<F32>([&](int i) { return (mask.part[i] != 0) ? v.part[i] : other.part[i]; });
}

/// sums[lane] += v[lane].
QUELL_SIMD void add_in_double(double* sums, const F32& v) {
#if defined(__AVX512F__)
  using Doubles [[gnu::vector_size(64)]] = double;
  const RegisterF32 x = v.part[0];
  const auto add = [&](double* to, auto half) {
    Doubles sum;
    std::memcpy(&sum, to, sizeof(sum));
    sum += __builtin_convertvector(half, Doubles);
    std::memcpy(to, &sum, sizeof(sum));
  };
  add(sums, __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7));
  add(sums + 8, __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15));
#else
  constexpr int kWidth = kRegisterBytes / 8;
  using Doubles [[gnu::vector_size(kRegisterBytes)]] = double;
  using Half [[gnu::vector_size(kRegisterBytes / 2)]] = float;
  for (int c = 0; c < kLanes / kWidth; ++c) {
    Half h;
    Doubles sum;
    std::memcpy(&h, reinterpret_cast<const char*>(&v) + c * sizeof(h), sizeof(h));
    std::memcpy(&sum, sums + c * kWidth, sizeof(sum));
    sum += __builtin_convertvector(h, Doubles);
    std::memcpy(sums + c * kWidth, &sum, sizeof(sum));
  }
#endif
}

/// Sum of the lanes from left to right.
QUELL_SIMD float sum_lanes(const F32& v) {
  float x[kLanes];
  store(x, v);
  for (int i = 1; i < kLanes; ++i) x[0] += x[i];
  return x[0];
}
QUELL_SIMD float max_lanes(const F32& v) {
#if defined(__AVX2__)
  float x[kLanes];
  store(x, v);
  const __m256 eight = _mm256_max_ps(_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
#else
  float x[kLanes];
  store(x, v);
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) x[i] = x[i] > x[i + width] ? x[i] : x[i + width];
  return x[0];
#endif
}

/// Half to even for |x| < 2^22: adding and subtracting 1.5 * 2^23 leaves no fraction bits.
QUELL_SIMD F32 round_small(const F32& x) { return (x + 12582912.0F) - 12582912.0F; }

/// exp within 3e-7 relative on [-87, 88], clamped to it: 2^n times a polynomial on [-ln2/2, ln2/2].
QUELL_SIMD F32 exp(const F32& x) {
  const F32 clamped = min(max(x, splat(-87.0F)), splat(88.0F));
  const F32 n = round_small(clamped * 1.44269504F);
  const F32 r = (clamped - n * 0.693359375F) + n * 2.12194440e-4F;  // ln 2 in two parts
  const F32 p =
      1.0F +
      r * (1.0F + r * (0.5F + r * (0.166666667F + r * (0.0416666667F + r * (0.00833333333F +
                                                                            r * 0.00138888889F)))));
  return p * bits_to_f32((to_i32(n) + 127) << 23);
}

/// erf within 1e-6: 1 - (1 + a1 x + ... + a6 x^6)^-16 (Abramowitz and Stegun 7.1.28).
QUELL_SIMD F32 erf(const F32& x) {
  const F32 a = abs(x);
  F32 p = 1.0F + a * (0.0705230784F +
                      a * (0.0422820123F +
                           a * (0.0092705272F +
                                a * (0.0001520143F + a * (0.0002765672F + a * 0.0000430638F)))));
  p = p * p;
  p = p * p;
  p = p * p;
  p = p * p;
  return copysign(1.0F - 1.0F / p, x);
}

/// Half to even, of values up to 2^30; what lies below that or is no number becomes a large
/// negative one.
QUELL_SIMD I32 round_to_i32(const F32& x) {
#if defined(__AVX512F__)
  return by_part<I32>(
      [&](int i) { return (RegisterI32)_mm512_maskz_cvtps_epi32(0xffff, x.part[i]); });
#elif defined(__AVX2__)
  return by_part<I32>([&](int i) { return (RegisterI32)_mm256_cvtps_epi32(x.part[i]); });
#elif defined(__SSE2__)
  return by_part<I32>([&](int i) { return (RegisterI32)_mm_cvtps_epi32(x.part[i]); });
#else
  return to_i32(round_small(max(x, splat(-1048576.0F))));
#endif
}
QUELL_SIMD I32 min(const I32& a, const I32& b) {
#if defined(__AVX512F__)
  return by_part<I32>([&](int i) {
    return (RegisterI32)_mm512_maskz_min_epi32(0xffff, (__m512i)a.part[i], (__m512i)b.part[i]);
  });
#elif defined(__AVX2__)
  return by_part<I32>(
      [&](int i) { return (RegisterI32)_mm256_min_epi32((__m256i)a.part[i], (__m256i)b.part[i]); });
#else
  return by_part<I32>([&](int i) { return a.part[i] < b.part[i] ? a.part[i] : b.part[i]; });
#endif
}
QUELL_SIMD I32 max(const I32& a, const I32& b) {
#if defined(__AVX512F__)
  return by_part<I32>([&](int i) {
    return (RegisterI32)_mm512_maskz_max_epi32(0xffff, (__m512i)a.part[i], (__m512i)b.part[i]);
  });
#elif defined(__AVX2__)
  return by_part<I32>(
      [&](int i) { return (RegisterI32)_mm256_max_epi32((__m256i)a.part[i], (__m256i)b.part[i]); });
#else
  return by_part<I32>([&](int i) { return a.part[i] > b.part[i] ? a.part[i] : b.part[i]; });
#endif
}

/// clamp(rne(x * inv_scale) + zero, low, high) of CodeArgs.
QUELL_SIMD I32 quantize(const F32& x, const F32& inv_scale, const I32& zero, const I32& low,
                        const I32& high) {
  return min(max(round_to_i32(min(x * inv_scale, splat(1048576.0F))) + zero, low), high);
}

/// Writes numbers of 0..255 as sixteen bytes.
QUELL_SIMD void store_u8(std::uint8_t* p, const I32& v) {
#if defined(__AVX512F__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)v.part[0]));
#elif defined(__AVX2__)
  const __m256i words =
      _mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)v.part[0], (__m256i)v.part[1]), 0xd8);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
#elif defined(__SSE2__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packus_epi16(_mm_packs_epi32((__m128i)v.part[0], (__m128i)v.part[1]),
                                    _mm_packs_epi32((__m128i)v.part[2], (__m128i)v.part[3])));
#else
  std::int32_t x[kLanes];
  store(x, v);
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<std::uint8_t>(x[i]);
#endif
}
QUELL_SIMD void store_u8_some(std::uint8_t* p, const I32& v, std::int64_t n) {
  std::uint8_t x[kLanes];
  store_u8(x, v);
  std::memcpy(p, x, static_cast<std::size_t>(n));
}
QUELL_SIMD F32 u8_to_f32(const std::uint8_t* p) {
#if defined(__AVX512F__)
  return to_f32(I32{{(RegisterI32)_mm512_maskz_cvtepu8_epi32(
      0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}});
#elif defined(__AVX2__)
  return to_f32(
      I32{{(RegisterI32)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))),
           (RegisterI32)_mm256_cvtepu8_epi32(
               _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8)))}});
#else
  std::int32_t x[kLanes];
  for (int i = 0; i < kLanes; ++i) x[i] = p[i];
  return to_f32(load(x));
#endif
}
QUELL_SIMD F32 u8_to_f32_some(const std::uint8_t* p, std::int64_t n) {
  std::uint8_t x[kLanes] = {};
  std::memcpy(x, p, static_cast<std::size_t>(n));
  return u8_to_f32(x);
}
/// Sum of whole lanes as int32.
QUELL_SIMD std::int32_t sum_lanes(const I32& v) {
  std::int32_t x[kLanes], sum = 0;
  store(x, v);
  for (const std::int32_t lane : x) sum += lane;
  return sum;
}

}  // namespace
}  // namespace quell::kernels
