// The AMX kernel text over the macros of amx_tiles.h.
#pragma once

#include "quell/kernels/gemm_bf16/gemm_bf16.h"
#include "quell/kernels/simd/amx_tiles.h"

namespace quell::kernels {
namespace {

static_assert(kAmxStride == kBf16Panel * 4);

inline void amx_multiply(const std::uint16_t* x, std::int64_t m, const Bf16Weights& w,
                         const float* bias, float* y, std::int64_t ldy, std::int64_t panel_begin,
                         std::int64_t panel_end) {
  constexpr int kRows = 32;
  alignas(64) float sums[kRows * kBf16Panel];
  const std::int64_t ldx = w.padded_k(), steps = ldx / kBf16Depth;
  int configured = 0;
  for (std::int64_t p = panel_begin; p < panel_end; ++p)
    for (std::int64_t i = 0; i < m; i += kRows) {
      const int rows = static_cast<int>(m - i < kRows ? m - i : kRows);
      if (rows != configured) {
        const TileConfig config = amx_config(rows < 16 ? rows : 16, rows < 16 ? 0 : rows - 16);
        QUELL_TILE_CONFIG(&config);
        configured = rows;
      }
      rows > 16 ? amx_block<true>(x + i * ldx, ldx * 2, w.panel(p), steps, sums)
                : amx_block<false>(x + i * ldx, ldx * 2, w.panel(p), steps, sums);
      const std::int64_t column = p * kBf16Panel,
                         columns = w.n - column < kBf16Panel ? w.n - column : kBf16Panel;
      for (int r = 0; r < rows; ++r)
        for (std::int64_t j = 0; j < columns; ++j)
          y[(i + r) * ldy + column + j] =
              sums[r * kBf16Panel + j] + (bias ? bias[column + j] : 0.0F);
    }
}

}  // namespace
}  // namespace quell::kernels
