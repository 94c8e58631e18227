// Attention of single queries to a cache: the loops of generation. Keys lie in blocks of sixteen
// tokens, [tokens/16][head_dim][16], values row by row, [tokens][head_dim], as f32 or as u8 codes
// with a step and zero point a token. Sums run in a fixed order on all ISAs.
#pragma once

#include <cstdint>

#include "quell/base/cpu_features.h"

namespace quell::kernels {

inline constexpr std::int64_t kKeyBlock = 16;
/// Element of token `t`, dimension `i` in a key cache.
constexpr std::int64_t key_offset(std::int64_t head_dim, std::int64_t t, std::int64_t i) {
  return (t / kKeyBlock * head_dim + i) * kKeyBlock + t % kKeyBlock;
}

/// Steps of cached codes, by token: value = (code - zero) * scale.
struct CachedSteps {
  const float *scale, *zero;
};

struct KvKernels {
  /// scores[t] = scale * sum over i of q[i] * key[t][i], for `tokens` tokens rounded up to whole
  /// blocks.
  void (*score_f32)(const float* q, const float* keys, std::int64_t head_dim, std::int64_t tokens,
                    float scale, float* scores);
  void (*score_codes)(const float* q, const std::uint8_t* keys, const CachedSteps& steps,
                      std::int64_t head_dim, std::int64_t tokens, float scale, float* scores);
  /// out[i] = sum over t in [first, tokens) of probs[t] * value[t][i].
  void (*mix_f32)(const float* probs, const float* values, std::int64_t head_dim,
                  std::int64_t first, std::int64_t tokens, float* out);
  void (*mix_codes)(const float* probs, const std::uint8_t* values, const CachedSteps& steps,
                    std::int64_t head_dim, std::int64_t first, std::int64_t tokens, float* out);
};

const KvKernels& kv_kernels(Isa isa);

extern const KvKernels kKvReference, kKvAvx2, kKvAvx512;

}  // namespace quell::kernels
