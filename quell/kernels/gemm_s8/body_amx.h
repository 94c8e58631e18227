// The AMX kernel text: blocks of 32 rows by one panel, 2x2 tiles of 16x16 sums, 64 k a step. Tile numbers are constants of the
// instructions, so the includer defines macros instead of a type: QUELL_TILE_CONFIG(config), _ZERO(t), _LOAD(t, p, stride),
// _STORE(t, p, stride), _DPBUSD(c, a, b). Tiles: 0..3 sums, 4 and 5 activations, 6 and 7 weights.
#pragma once

#include "quell/kernels/gemm_s8/epilogue.h"

namespace quell::kernels {
namespace {

/// Memory operand of ldtilecfg.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t column_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

inline TileConfig amx_config(int upper_rows, int lower_rows) {
  TileConfig c;
  const int rows[8] = {upper_rows, upper_rows, lower_rows, lower_rows, upper_rows, lower_rows, 16, 16};
  for (int t = 0; t < 8; ++t) {
    c.rows[t] = static_cast<std::uint8_t>(rows[t]);
    c.column_bytes[t] = rows[t] > 0 ? 64 : 0;
  }
  return c;
}

template <bool kLower>
[[gnu::always_inline]] inline void amx_block(const std::uint8_t* x, std::int64_t ldx, const std::int8_t* w, std::int64_t steps,
                                             Tile& tile) {
  QUELL_TILE_ZERO(0);
  QUELL_TILE_ZERO(1);
  if constexpr (kLower) {
    QUELL_TILE_ZERO(2);
    QUELL_TILE_ZERO(3);
  }
  for (std::int64_t s = 0; s < steps; ++s, x += 64, w += 16 * kPanel * 4) {
    QUELL_TILE_LOAD(6, w, kPanel * 4);
    QUELL_TILE_LOAD(4, x, ldx);
    QUELL_TILE_DPBUSD(0, 4, 6);
    QUELL_TILE_LOAD(7, w + 64, kPanel * 4);
    QUELL_TILE_DPBUSD(1, 4, 7);
    if constexpr (kLower) {
      QUELL_TILE_LOAD(5, x + 16 * ldx, ldx);
      QUELL_TILE_DPBUSD(2, 5, 6);
      QUELL_TILE_DPBUSD(3, 5, 7);
    }
  }
  QUELL_TILE_STORE(0, tile.at(0, 0), kPanel * 4);
  QUELL_TILE_STORE(1, tile.at(0, 1), kPanel * 4);
  if constexpr (kLower) {
    QUELL_TILE_STORE(2, tile.at(16, 0), kPanel * 4);
    QUELL_TILE_STORE(3, tile.at(16, 1), kPanel * 4);
  }
}

inline void amx_gemm(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w, const Epilogue& epilogue,
                     std::int64_t m_begin, std::int64_t m_end, std::int64_t panel_begin, std::int64_t panel_end) {
  constexpr int kRows = 32;
  int configured = 0;
  for_each_tile<kRows>(w, epilogue, m_begin, m_end, panel_begin, panel_end,
                       [&](std::int64_t row, const std::int8_t* panel, std::int64_t k, std::int64_t depth, int rows, Tile& tile) {
                         if (rows != configured) {
                           const TileConfig config = amx_config(rows < 16 ? rows : 16, rows < 16 ? 0 : rows - 16);
                           QUELL_TILE_CONFIG(&config);
                           configured = rows;
                         }
                         const std::uint8_t* rows_x = x + row * ldx + k;
                         rows > 16 ? amx_block<true>(rows_x, ldx, panel, depth / 64, tile)
                                   : amx_block<false>(rows_x, ldx, panel, depth / 64, tile);
                       });
}

}  // namespace
}  // namespace quell::kernels
