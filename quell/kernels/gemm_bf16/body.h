// The kernel text; each ISA's file includes it.
#pragma once

#include "quell/kernels/gemm_bf16/gemm_bf16.h"
#include "quell/kernels/simd/simd.h"

namespace quell::kernels {
namespace {

/// Sixteen columns' pairs of bf16: the lower half of a lane is the even k.
QUELL_SIMD I32 load_pairs(const std::uint16_t* p) {
  I32 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
QUELL_SIMD F32 even_of(const I32& pairs) { return bits_to_f32(pairs << 16); }
QUELL_SIMD F32 odd_of(const I32& pairs) {
  return bits_to_f32(pairs & static_cast<std::int32_t>(0xffff0000));
}

template <int kRows>
QUELL_SIMD void multiply_panel(const float* x, std::int64_t ldx, const std::uint16_t* w,
                               std::int64_t k, const float* bias, float* y, std::int64_t ldy,
                               std::int64_t columns) {
  F32 sum[kRows][2];
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = splat(0.0F);
  for (std::int64_t i = 0; i < k; i += 2, w += 2 * kBf16Panel) {
    if constexpr (kRows == 1)  // waits for memory; the processor's own prefetcher stops at pages
      for (std::int64_t h = 0; h < 2; ++h) __builtin_prefetch(w + 1024 + 2 * kLanes * h);
    const I32 pairs[2] = {load_pairs(w), load_pairs(w + 2 * kLanes)};
    for (int r = 0; r < kRows; ++r)
      for (int h = 0; h < 2; ++h) sum[r][h] = sum[r][h] + x[r * ldx + i] * even_of(pairs[h]);
    // Of an odd K the last product is left out, as x ends there.
    if (i + 1 < k)
      for (int r = 0; r < kRows; ++r)
        for (int h = 0; h < 2; ++h) sum[r][h] = sum[r][h] + x[r * ldx + i + 1] * odd_of(pairs[h]);
  }
  for (int r = 0; r < kRows; ++r)
    for (std::int64_t h = 0; h < 2; ++h) {
      const std::int64_t left = columns - h * kLanes, count = left < kLanes ? left : kLanes;
      if (count <= 0) continue;
      F32 v = sum[r][h];
      if (bias)
        v = v + (count == kLanes ? load(bias + h * kLanes) : load_some(bias + h * kLanes, count));
      float* out = y + r * ldy + h * kLanes;
      count == kLanes ? store(out, v) : store_some(out, v, count);
    }
}

void multiply(const float* x, std::int64_t ldx, std::int64_t m, const Bf16Weights& w,
              const float* bias, float* y, std::int64_t ldy, std::int64_t panel_begin,
              std::int64_t panel_end) {
  for (std::int64_t p = panel_begin; p < panel_end; ++p) {
    const std::int64_t column = p * kBf16Panel;
    const float* panel_bias = bias ? bias + column : nullptr;
    std::int64_t i = 0;
    for (; i + 2 <= m; i += 2)
      multiply_panel<2>(x + i * ldx, ldx, w.panel(p), w.k, panel_bias, y + i * ldy + column, ldy,
                        w.n - column);
    if (i < m)
      multiply_panel<1>(x + i * ldx, ldx, w.panel(p), w.k, panel_bias, y + i * ldy + column, ldy,
                        w.n - column);
  }
}

void unpack(const Bf16Weights& w, std::int64_t panel_begin, std::int64_t panel_end, float* out) {
  const std::int64_t width = (panel_end - panel_begin) * kBf16Panel;
  for (std::int64_t p = panel_begin; p < panel_end; ++p) {
    const std::uint16_t* from = w.panel(p);
    float* to = out + (p - panel_begin) * kBf16Panel;
    for (std::int64_t i = 0; i < w.k; i += 2, from += 2 * kBf16Panel)
      for (std::int64_t h = 0; h < 2; ++h) {
        const I32 pairs = load_pairs(from + 2 * h * kLanes);
        store(to + i * width + h * kLanes, even_of(pairs));
        if (i + 1 < w.k) store(to + (i + 1) * width + h * kLanes, odd_of(pairs));
      }
  }
}

[[maybe_unused]] constexpr Bf16Kernels kKernels{multiply, nullptr, unpack};

}  // namespace
}  // namespace quell::kernels
