#include "quell/kernels/gemm_s8/probe.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#if defined(QUELL_X86_64)
#include <immintrin.h>
#endif

namespace quell::kernels {
namespace {

template <typename Body>
double best_rate(double macs, Body body) {
  double best = 0;
  for (int repeat = 0; repeat < 12; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    body();
    best = std::max(best, macs / std::chrono::duration<double, std::nano>(
                                     std::chrono::steady_clock::now() - start)
                                     .count());
  }
  return best;
}

#if defined(QUELL_X86_64)
constexpr int kLoops = 200000;

// Twelve independent sums, each named, so that the compiler keeps them in registers.
#define QUELL_TWELVE(op) \
  op(a0) op(a1) op(a2) op(a3) op(a4) op(a5) op(a6) op(a7) op(a8) op(a9) op(a10) op(a11)
#define QUELL_KEEP                                                                         \
  __asm__ volatile(""                                                                      \
                   : "+v"(a0), "+v"(a1), "+v"(a2), "+v"(a3), "+v"(a4), "+v"(a5), "+v"(a6), \
                     "+v"(a7), "+v"(a8), "+v"(a9), "+v"(a10), "+v"(a11))
#define QUELL_SUMS(T, zero)                                                                 \
  T a0 = zero, a1 = zero, a2 = zero, a3 = zero, a4 = zero, a5 = zero, a6 = zero, a7 = zero, \
    a8 = zero, a9 = zero, a10 = zero, a11 = zero

__attribute__((target("avx512f,avx512vnni"))) void vnni512() {
  QUELL_SUMS(__m512i, _mm512_setzero_si512());
  const __m512i x = _mm512_set1_epi32(0x01010101);
  for (int i = 0; i < kLoops; ++i) {
#define QUELL_OP(a) a = _mm512_dpbusd_epi32(a, x, x);
    QUELL_TWELVE(QUELL_OP)
#undef QUELL_OP
    QUELL_KEEP;
  }
}

__attribute__((target("avx2,avxvnni"))) void vnni256() {
  QUELL_SUMS(__m256i, _mm256_setzero_si256());
  const __m256i x = _mm256_set1_epi32(0x01010101);
  for (int i = 0; i < kLoops; ++i) {
#define QUELL_OP(a) a = _mm256_dpbusd_avx_epi32(a, x, x);
    QUELL_TWELVE(QUELL_OP)
#undef QUELL_OP
    __asm__ volatile(""
                     : "+x"(a0), "+x"(a1), "+x"(a2), "+x"(a3), "+x"(a4), "+x"(a5), "+x"(a6),
                       "+x"(a7), "+x"(a8), "+x"(a9), "+x"(a10), "+x"(a11));
  }
}

/// Four products of 16x16x64 tiles in registers.
__attribute__((target("amx-tile,amx-int8"))) void tiles() {
  alignas(64) std::uint8_t config[64] = {
      1};  // palette; then from byte 16 bytes a row (u16), from byte 48 rows of each tile
  for (int t = 0; t < 8; ++t) config[16 + 2 * t] = 64, config[48 + t] = 16;
  __asm__ volatile("" ::: "memory");  // g++ 12 does not see that the configuration is read
  _tile_loadconfig(config);
  for (int i = 0; i < kLoops / 16; ++i) {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  _tile_release();
}

#define QUELL_KEEP_AVX(p) __asm__ volatile("" : "+x"(p))

/// One product of 16-bit pairs and an addition.
__attribute__((target("avx2"))) void widened() {
  QUELL_SUMS(__m256i, _mm256_setzero_si256());
  __m256i x = _mm256_set1_epi16(1);
  for (int i = 0; i < kLoops; ++i) {
#define QUELL_OP(a)                      \
  {                                      \
    QUELL_KEEP_AVX(x);                   \
    __m256i p = _mm256_madd_epi16(x, x); \
    QUELL_KEEP_AVX(p);                   \
    a = _mm256_add_epi32(a, p);          \
    QUELL_KEEP_AVX(a);                   \
  }
    QUELL_TWELVE(QUELL_OP)
#undef QUELL_OP
  }
}

/// kFlush byte products summed in 16 bits, then widened and added.
template <int kFlush>
__attribute__((target("avx2"))) void maddubs() {
  __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0, x = _mm256_set1_epi8(1);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int i = 0; i < kLoops; ++i) {
#define QUELL_OP(s)                                              \
  {                                                              \
    QUELL_KEEP_AVX(x);                                           \
    __m256i part = _mm256_maddubs_epi16(x, x);                   \
    _Pragma("GCC unroll 16") for (int f = 1; f < kFlush; ++f) {  \
      QUELL_KEEP_AVX(x);                                         \
      part = _mm256_add_epi16(part, _mm256_maddubs_epi16(x, x)); \
    }                                                            \
    s = _mm256_add_epi32(s, _mm256_madd_epi16(part, ones));      \
  }
    QUELL_OP(s0) QUELL_OP(s1) QUELL_OP(s2) QUELL_OP(s3)
#undef QUELL_OP
  }
  s0 = _mm256_add_epi32(_mm256_add_epi32(s0, s1), _mm256_add_epi32(s2, s3));
  QUELL_KEEP_AVX(s0);
}

double avx2_peak(WeightLayout layout, int max_product) {
  if (layout == WeightLayout::kPairs) return best_rate(12.0 * 16 * kLoops, widened);
  const auto rate = [](int flush, auto body) { return best_rate(4.0 * 32 * flush * kLoops, body); };
  if (2 * 16 * max_product <= 32767) return rate(16, maddubs<16>);
  if (2 * 8 * max_product <= 32767) return rate(8, maddubs<8>);
  return 2 * 2 * max_product <= 32767 ? rate(2, maddubs<2>) : rate(1, maddubs<1>);
}
#endif

}  // namespace

double peak_gmacs(Isa isa, WeightLayout layout, int max_product) {
#if defined(QUELL_X86_64)
  if (isa == Isa::kAmx) return best_rate(4.0 * 16 * 16 * 64 * (kLoops / 16), tiles);
  if (isa == Isa::kAvx512Vnni) return best_rate(12.0 * 64 * kLoops, vnni512);
  if (isa == Isa::kAvxVnni) return best_rate(12.0 * 32 * kLoops, vnni256);
  if (isa == Isa::kAvx2) return avx2_peak(layout, max_product);
#endif
  (void)isa, (void)layout, (void)max_product;
  return 0;
}

std::uint64_t read_all(const void* data, std::size_t size) {
  // Independent sums, which the compiler turns into whole-register loads.
  using Words [[gnu::vector_size(64)]] = std::uint64_t;
  Words sum[4] = {};
  const auto* p = static_cast<const char*>(data);
  for (std::size_t i = 0; i + 256 <= size; i += 256)
    for (std::size_t j = 0; j < 4; ++j) {
      __builtin_prefetch(p + i + 64 * j +
                         2048);  // what the processor fetches by itself ends at pages
      Words v;
      std::memcpy(&v, p + i + 64 * j, sizeof(v));
      sum[j] += v;
    }
  const Words total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  std::uint64_t out = 0;
  for (int i = 0; i < 8; ++i) out += total[i];
  return out;
}

}  // namespace quell::kernels
