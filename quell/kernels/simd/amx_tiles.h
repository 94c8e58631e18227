// Blocks of 32 rows by 32 columns as 2x2 AMX tiles of 16x16 sums, 64 bytes of a row a step; codes
// and bf16 differ only in the product. Tile numbers are constants of the instructions, so the
// includer defines macros instead of a type: QUELL_TILE_CONFIG(config), _ZERO(t), _LOAD(t, p,
// stride), _STORE(t, p, stride), _DP(c, a, b). Tiles: 0..3 sums, 4 and 5 activations, 6 and 7
// weights.
#pragma once

#include <cstdint>

namespace quell::kernels {
namespace {

inline constexpr std::int64_t kAmxStride = 32 * 4;  ///< bytes between rows of sums and of weights

/// Memory operand of ldtilecfg.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t column_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

inline TileConfig amx_config(int upper_rows, int lower_rows) {
  TileConfig c;
  const int rows[8] = {upper_rows, upper_rows, lower_rows, lower_rows,
                       upper_rows, lower_rows, 16,         16};
  for (int t = 0; t < 8; ++t) {
    c.rows[t] = static_cast<std::uint8_t>(rows[t]);
    c.column_bytes[t] = rows[t] > 0 ? 64 : 0;
  }
  return c;
}

/// sums[32][32] of 4 bytes = x w over `steps` of 64 bytes; the lower sixteen rows only where
/// kLower. x: rows of ldx bytes; w: for every 4 bytes of a row of x, 32 columns of 4 bytes.
template <bool kLower>
[[gnu::always_inline]] inline void amx_block(const void* x, std::int64_t ldx, const void* w,
                                             std::int64_t steps, void* sums) {
  QUELL_TILE_ZERO(0);
  QUELL_TILE_ZERO(1);
  if constexpr (kLower) {
    QUELL_TILE_ZERO(2);
    QUELL_TILE_ZERO(3);
  }
  const auto* rows = static_cast<const char*>(x);
  const auto* columns = static_cast<const char*>(w);
  for (std::int64_t s = 0; s < steps; ++s, rows += 64, columns += 16 * kAmxStride) {
    QUELL_TILE_LOAD(6, columns, kAmxStride);
    QUELL_TILE_LOAD(4, rows, ldx);
    QUELL_TILE_DP(0, 4, 6);
    QUELL_TILE_LOAD(7, columns + 64, kAmxStride);
    QUELL_TILE_DP(1, 4, 7);
    if constexpr (kLower) {
      QUELL_TILE_LOAD(5, rows + 16 * ldx, ldx);
      QUELL_TILE_DP(2, 5, 6);
      QUELL_TILE_DP(3, 5, 7);
    }
  }
  auto* out = static_cast<char*>(sums);
  QUELL_TILE_STORE(0, out, kAmxStride);
  QUELL_TILE_STORE(1, out + 64, kAmxStride);
  if constexpr (kLower) {
    QUELL_TILE_STORE(2, out + 16 * kAmxStride, kAmxStride);
    QUELL_TILE_STORE(3, out + 16 * kAmxStride + 64, kAmxStride);
  }
}

}  // namespace
}  // namespace quell::kernels
