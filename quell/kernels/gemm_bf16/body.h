// The kernel text; each ISA's file includes it.
#pragma once

#include "quell/kernels/gemm_bf16/gemm_bf16.h"
#include "quell/kernels/simd/simd.h"

namespace quell::kernels {
namespace {

template <int kRows>
QUELL_SIMD void multiply_panel(const float* x, std::int64_t ldx, const std::uint16_t* w, std::int64_t k, const float* bias,
                               float* y, std::int64_t ldy, std::int64_t columns) {
  F32 sum[kRows][2];
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = splat(0.0F);
  for (std::int64_t i = 0; i < k; ++i, w += kBf16Panel) {
    const F32 w0 = bf16_to_f32(w), w1 = bf16_to_f32(w + kLanes);
    for (int r = 0; r < kRows; ++r) {
      sum[r][0] = sum[r][0] + x[r * ldx + i] * w0;
      sum[r][1] = sum[r][1] + x[r * ldx + i] * w1;
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (std::int64_t h = 0; h < 2; ++h) {
      const std::int64_t left = columns - h * kLanes, count = left < kLanes ? left : kLanes;
      if (count <= 0) continue;
      F32 v = sum[r][h];
      if (bias) v = v + (count == kLanes ? load(bias + h * kLanes) : load_some(bias + h * kLanes, count));
      float* out = y + r * ldy + h * kLanes;
      count == kLanes ? store(out, v) : store_some(out, v, count);
    }
}

void multiply(const float* x, std::int64_t ldx, std::int64_t m, const Bf16Weights& w, const float* bias, float* y, std::int64_t ldy,
              std::int64_t panel_begin, std::int64_t panel_end) {
  for (std::int64_t p = panel_begin; p < panel_end; ++p) {
    const std::int64_t column = p * kBf16Panel;
    const float* panel_bias = bias ? bias + column : nullptr;
    std::int64_t i = 0;
    for (; i + 2 <= m; i += 2)
      multiply_panel<2>(x + i * ldx, ldx, w.panel(p), w.k, panel_bias, y + i * ldy + column, ldy, w.n - column);
    if (i < m) multiply_panel<1>(x + i * ldx, ldx, w.panel(p), w.k, panel_bias, y + i * ldy + column, ldy, w.n - column);
  }
}

void unpack(const Bf16Weights& w, std::int64_t panel_begin, std::int64_t panel_end, float* out) {
  const std::int64_t width = (panel_end - panel_begin) * kBf16Panel;
  for (std::int64_t p = panel_begin; p < panel_end; ++p) {
    const std::uint16_t* from = w.panel(p);
    float* to = out + (p - panel_begin) * kBf16Panel;
    for (std::int64_t i = 0; i < w.k; ++i)
      for (std::int64_t h = 0; h < kBf16Panel; h += kLanes) store(to + i * width + h, bf16_to_f32(from + i * kBf16Panel + h));
  }
}

constexpr Bf16Kernels kKernels{multiply, unpack};

}  // namespace
}  // namespace quell::kernels
