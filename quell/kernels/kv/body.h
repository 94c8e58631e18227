// The text of the cache kernels.
#pragma once

#include "quell/kernels/kv/kv.h"
#include "quell/kernels/simd/simd.h"

namespace quell::kernels {
namespace {

QUELL_SIMD F32 load_elements(const float* p) { return load(p); }
QUELL_SIMD F32 load_elements(const std::uint8_t* p) { return u8_to_f32(p); }

/// Two interleaved sums a block hide the latency of the additions.
template <typename T>
QUELL_SIMD F32 block_products(const float* q, const T* keys, std::int64_t head_dim) {
  F32 even = splat(0.0F), odd = even;
  std::int64_t i = 0;
  for (; i + 2 <= head_dim; i += 2) {
    even = even + q[i] * load_elements(keys + i * kLanes);
    odd = odd + q[i + 1] * load_elements(keys + (i + 1) * kLanes);
  }
  if (i < head_dim) even = even + q[i] * load_elements(keys + i * kLanes);
  return even + odd;
}

inline void score_f32(const float* q, const float* keys, std::int64_t head_dim, std::int64_t tokens,
                      float scale, float* scores) {
  for (std::int64_t t = 0; t < tokens; t += kLanes)
    store(scores + t, scale * block_products(q, keys + t * head_dim, head_dim));
}

inline void score_codes(const float* q, const std::uint8_t* keys, const CachedSteps& steps,
                        std::int64_t head_dim, std::int64_t tokens, float scale, float* scores) {
  float total = 0.0F;
  for (std::int64_t i = 0; i < head_dim; ++i) total += q[i];
  for (std::int64_t t = 0; t < tokens; t += kLanes) {
    const F32 sum = block_products(q, keys + t * head_dim, head_dim) - load(steps.zero + t) * total;
    store(scores + t, scale * (load(steps.scale + t) * sum));
  }
}

/// `weight(t)`: what the values of token t are multiplied with; `zero(t)`: what is subtracted from
/// them first.
template <typename T, typename Weight, typename Zero>
QUELL_SIMD void mix(const T* values, std::int64_t head_dim, std::int64_t first, std::int64_t tokens,
                    float* out, Weight weight, Zero zero) {
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= head_dim; i += 2 * kLanes) {
    F32 a = splat(0.0F), b = a;
    for (std::int64_t t = first; t < tokens; ++t) {
      const T* v = values + t * head_dim + i;
      a = a + weight(t) * (load_elements(v) - zero(t));
      b = b + weight(t) * (load_elements(v + kLanes) - zero(t));
    }
    store(out + i, a);
    store(out + i + kLanes, b);
  }
  for (; i < head_dim; ++i) {
    float sum = 0.0F;
    for (std::int64_t t = first; t < tokens; ++t)
      sum += weight(t) * (static_cast<float>(values[t * head_dim + i]) - zero(t));
    out[i] = sum;
  }
}

inline void mix_f32(const float* probs, const float* values, std::int64_t head_dim,
                    std::int64_t first, std::int64_t tokens, float* out) {
  mix(
      values, head_dim, first, tokens, out, [&](std::int64_t t) { return probs[t]; },
      [](std::int64_t) { return 0.0F; });
}

inline void mix_codes(const float* probs, const std::uint8_t* values, const CachedSteps& steps,
                      std::int64_t head_dim, std::int64_t first, std::int64_t tokens, float* out) {
  mix(
      values, head_dim, first, tokens, out,
      [&](std::int64_t t) { return probs[t] * steps.scale[t]; },
      [&](std::int64_t t) { return steps.zero[t]; });
}

inline constexpr KvKernels kKv = {score_f32, score_codes, mix_f32, mix_codes};

}  // namespace
}  // namespace quell::kernels
