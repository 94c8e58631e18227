// The AMX kernel text over the macros of amx_tiles.h.
#pragma once

#include "quell/kernels/gemm_s8/epilogue.h"
#include "quell/kernels/simd/amx_tiles.h"

namespace quell::kernels {
namespace {

static_assert(kAmxStride == kPanel * 4);

template <typename Panels = PackedPanels>
inline void amx_gemm(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w,
                     const Epilogue& epilogue, std::int64_t m_begin, std::int64_t m_end,
                     std::int64_t panel_begin, std::int64_t panel_end) {
  constexpr int kRows = 32;
  int configured = 0;
  for_each_tile<kRows, Panels>(
      w, epilogue, m_begin, m_end, panel_begin, panel_end,
      [&](std::int64_t row, const std::int8_t* panel, std::int64_t k, std::int64_t depth, int rows,
          Tile& tile) {
        if (rows != configured) {
          const TileConfig config = amx_config(rows < 16 ? rows : 16, rows < 16 ? 0 : rows - 16);
          QUELL_TILE_CONFIG(&config);
          configured = rows;
        }
        const std::uint8_t* rows_x = x + row * ldx + k;
        rows > 16 ? amx_block<true>(rows_x, ldx, panel, depth / 64, tile.sum)
                  : amx_block<false>(rows_x, ldx, panel, depth / 64, tile.sum);
      });
}

}  // namespace
}  // namespace quell::kernels
