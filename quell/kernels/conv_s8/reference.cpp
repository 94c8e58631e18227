#include <algorithm>

#include "quell/kernels/conv_s8/depthwise_layout.h"
#include "quell/kernels/conv_s8/kernels.h"
#include "quell/kernels/gemm_s8/epilogue.h"

namespace quell::kernels {
namespace {

/// `row_of(tap, i)`: the codes that a tap of output pixel i sees.
template <typename RowOf>
void reference_conv(RowOf row_of, std::int64_t pixels, const PackedConv& w, const Epilogue& e,
                    std::int64_t row0, std::int64_t panel_begin, std::int64_t panel_end) {
  Tile tile;
  for (std::int64_t panel = panel_begin; panel < panel_end; ++panel)
    for (std::int64_t i = 0; i < pixels; ++i) {
      std::fill_n(tile.sum, kPanel, 0);
      for (std::int64_t tap = 0; tap < w.taps; ++tap) {
        const std::uint8_t* codes = row_of(tap, i);
        const std::int8_t* weights = w.panel(panel) + tap * w.quads() * kPanel * 4;
        for (std::int64_t k = 0; k < w.channels; ++k)
          for (std::int64_t c = 0; c < kPanel; ++c)
            tile.sum[c] += codes[k] * weights[(k / 4 * kPanel + c) * 4 + k % 4];
      }
      finish_tile(tile, 1, row0 + i, panel, w.n, false, e);
    }
}

std::int32_t depthwise_sum(const DepthwiseRows& rows, const PackedDepthwise& w, std::int64_t y,
                           std::int64_t x, std::int64_t channel) {
  // The block that the channel lies in.
  std::int64_t first = 0, width = depthwise_block(w.channels, 0, w.vector_bytes);
  while (channel >= first + width) {
    first += width;
    width = depthwise_block(w.channels, first, w.vector_bytes);
  }
  const auto* block = reinterpret_cast<const std::int8_t*>(w.data.data()) + first * 4 * w.quads();
  const std::int64_t position = depthwise_position(width, channel - first);

  const std::uint8_t* const* columns = rows.columns + y * rows.pointers_a_row;
  std::int32_t sum = 0;
  for (std::int64_t u = 0; u < w.kernel_width; ++u)
    for (std::int64_t t = 0; t < w.kernel_height; ++t) {
      const std::int64_t column = x * rows.stride + u * rows.dilation;
      const std::int64_t quad = u * w.quads_a_column() + t / 4;
      const std::int8_t weight = block[(quad * width + position) * 4 + t % 4];
      sum += columns[column * w.kernel_height + t][channel] * weight;
    }
  return sum;
}

}  // namespace

QUELL_CONV_S8_DENSE(dense_reference) {
  const auto row_of = [&](std::int64_t tap, std::int64_t i) { return rows[tap * pixels + i]; };
  reference_conv(row_of, pixels, w, e, row0, panel_begin, panel_end);
}

QUELL_CONV_S8_POINTWISE(pointwise_reference) {
  const auto row_of = [&](std::int64_t, std::int64_t i) { return x + i * ldx; };
  reference_conv(row_of, pixels, w, e, row0, panel_begin, panel_end);
}

QUELL_CONV_S8_DEPTHWISE(depthwise_reference) {
  Tile tile;
  for (std::int64_t first = channel_begin; first < channel_end; first += kPanel)
    for (std::int64_t i = 0; i < rows.rows * rows.pixels; ++i) {
      const std::int64_t y = i / rows.pixels, x = i % rows.pixels;
      for (std::int64_t c = 0; c < kPanel; ++c)
        tile.sum[c] = first + c < w.channels ? depthwise_sum(rows, w, y, x, first + c) : 0;
      finish_tile(tile, 1, row0 + i, first / kPanel, w.channels, false, e);
    }
}

}  // namespace quell::kernels
