// What the 256-bit kernels share.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace quell::kernels {
namespace {

struct Vector256 {
  using I32 = __m256i;
  using I8 = __m256i;
  static I32 zero() { return _mm256_setzero_si256(); }
  static I8 load(const std::int8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static I8 broadcast(const std::uint8_t* p) {
    std::int32_t quad;
    std::memcpy(&quad, p, sizeof(quad));
    return _mm256_set1_epi32(quad);
  }
  static void store(std::int32_t* p, I32 v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
  }
  static I8 extend(I8 nibbles) {
    const __m128i table = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles);
  }
  static I8 low_nibbles(I8 v) { return extend(_mm256_and_si256(v, _mm256_set1_epi8(15))); }
  static I8 high_nibbles(I8 v) {
    return extend(_mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15)));
  }
  /// Quad kQuad of four, sign-extended: a nibble has two, and a table of sixteen bytes for each.
  template <int kQuad>
  static I8 crumbs(I8 v) {
    const __m128i first = _mm_setr_epi8(0, 1, -2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1, -2, -1),
                  second = _mm_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, -2, -2, -2, -2, -1, -1, -1, -1);
    const I8 nibbles =
        _mm256_and_si256(kQuad < 2 ? v : _mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(kQuad % 2 ? second : first), nibbles);
  }
};

}  // namespace
}  // namespace quell::kernels
