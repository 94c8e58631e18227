#include <algorithm>

#include "quell/kernels/gemm_s8/epilogue.h"
#include "quell/kernels/gemm_s8/kernels.h"

namespace quell::kernels {
namespace {

/// The code of column `c`, index `k` in a panel.
int code_at(const std::int8_t* panel, WeightLayout layout, std::int64_t c, std::int64_t k) {
  if (layout == WeightLayout::kQuads) return panel[(k / 4 * kPanel + c) * 4 + k % 4];
  if (layout == WeightLayout::kPairs) return panel[(k / 2 * kPanel + c) * 2 + k % 2];

  // Quads share bytes, the first in the lowest bits.
  const int bits = bits_of(layout);
  const std::int64_t span = 4 * 8 / bits;
  const auto byte = static_cast<std::uint8_t>(panel[(k / span * kPanel + c) * 4 + k % 4]);
  const int code = byte >> (k % span / 4 * bits) & ((1 << bits) - 1);
  return code < 1 << (bits - 1) ? code : code - (1 << bits);
}

void reference_gemm(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w,
                    const Epilogue& epilogue, std::int64_t m_begin, std::int64_t m_end,
                    std::int64_t panel_begin, std::int64_t panel_end) {
  for_each_tile<4>(w, epilogue, m_begin, m_end, panel_begin, panel_end,
                   [&](std::int64_t row, const std::int8_t* panel, std::int64_t k_begin,
                       std::int64_t depth, int rows, Tile& tile) {
                     const std::int64_t end = std::min(depth, w.k - k_begin);
                     for (int r = 0; r < rows; ++r)
                       for (std::int64_t c = 0; c < kPanel; ++c) {
                         std::int32_t sum = 0;
                         const std::int8_t* quads = panel + 4 * c;
                         const std::uint8_t* codes = x + (row + r) * ldx + k_begin;
                         if (w.layout == WeightLayout::kQuads)
                           for (std::int64_t k = 0; k < end; ++k)
                             sum += codes[k] * quads[(k & ~3) * kPanel + (k & 3)];
                         else
                           for (std::int64_t k = 0; k < end; ++k)
                             sum += codes[k] * code_at(panel, w.layout, c, k);
                         tile.sum[r * kPanel + c] = sum;
                       }
                   });
}

}  // namespace

QUELL_GEMM_S8(gemm_s8_reference) { reference_gemm(QUELL_GEMM_S8_ARGS); }
QUELL_GEMM_S8(gemm_s8_reference_nibbles) { reference_gemm(QUELL_GEMM_S8_ARGS); }
QUELL_GEMM_S8(gemm_s8_reference_crumbs) { reference_gemm(QUELL_GEMM_S8_ARGS); }

}  // namespace quell::kernels
