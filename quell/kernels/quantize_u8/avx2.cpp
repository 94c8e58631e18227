#include <immintrin.h>

#include "quell/kernels/quantize_u8/quantize_u8.h"

namespace quell::kernels {

std::int32_t quantize_u8_avx2(const float* x, std::int64_t n, const QuantizeU8Args& args, std::uint8_t* out) {
  const __m256 inv = _mm256_set1_ps(args.inv_scale), zero = _mm256_set1_ps(args.zero_point);
  const __m256 low = _mm256_set1_ps(args.min_code), high = _mm256_set1_ps(args.max_code), offset = _mm256_set1_ps(args.offset);
  const auto quantize8 = [&](const float* p) {
    __m256 code = _mm256_round_ps(_mm256_mul_ps(_mm256_loadu_ps(p), inv), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    code = _mm256_min_ps(_mm256_max_ps(_mm256_add_ps(code, zero), low), high);
    return _mm256_cvtps_epi32(_mm256_add_ps(code, offset));
  };
  __m256i total = _mm256_setzero_si256();
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256i a = quantize8(x + i), b = quantize8(x + i + 8);
    total = _mm256_add_epi32(total, _mm256_add_epi32(a, b));
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), bytes);
  }
  alignas(32) std::int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), total);
  std::int32_t sum = 0;
  for (const std::int32_t lane : lanes) sum += lane;
  return sum + quantize_u8_reference(x + i, n - i, args, out + i);
}

}  // namespace quell::kernels
