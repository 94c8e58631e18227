#include <algorithm>
#include <cstdlib>

#include "quell/kernels/conv_s8/conv_s8.h"
#include "quell/kernels/conv_s8/depthwise_layout.h"

namespace quell::kernels {
namespace {

int larger_magnitude(int bound, std::int8_t code) {
  return std::max(bound, std::abs(static_cast<int>(code)));
}

/// One block of channels. `w` begins at its first channel.
void pack_depthwise_block(const std::int8_t* w, std::int64_t count, std::int64_t width,
                          const PackedDepthwise& p, std::int8_t* block) {
  const std::int64_t height = p.kernel_height, columns = p.kernel_width;
  const std::int64_t column_quads = p.quads_a_column();
  const auto put = [&](std::int64_t quad, std::int64_t c, std::int64_t part, std::int64_t tap_row,
                       std::int64_t tap_column) {
    const std::int64_t place = (quad * width + depthwise_position(width, c)) * 4 + part;
    block[place] = w[(c * height + tap_row) * columns + tap_column];
  };

  for (std::int64_t c = 0; c < count; ++c)
    for (std::int64_t t = 0; t < height; ++t)
      for (std::int64_t u = 0; u < columns; ++u) put(u * column_quads + t / 4, c, t % 4, t, u);
  if (!p.has_last_row()) return;

  // Four neighbouring outputs see eight columns, two units; the filter's last row lies in them at
  // four distances.
  const std::int64_t first = columns * column_quads;
  for (std::int64_t c = 0; c < count; ++c)
    for (std::int64_t output = 0; output < 4; ++output)
      for (std::int64_t u = 0; u < columns; ++u) {
        const std::int64_t column = output + u;
        put(first + output * 2 + column / 4, c, column % 4, height - 1, u);
      }
}

}  // namespace

PackedConv pack_conv(const std::int8_t* w, std::int64_t n, std::int64_t taps,
                     std::int64_t channels) {
  PackedConv p;
  p.n = n;
  p.taps = taps;
  p.channels = channels;
  p.data = AlignedBuffer(static_cast<std::size_t>(p.panels() * p.panel_bytes()));
  p.row_sum.assign(static_cast<std::size_t>(p.padded_n()), 0);

  auto* bytes = reinterpret_cast<std::int8_t*>(p.data.data());
  for (std::int64_t row = 0; row < n; ++row) {
    std::int8_t* panel = bytes + row / kPanel * p.panel_bytes();
    for (std::int64_t tap = 0; tap < taps; ++tap)
      for (std::int64_t c = 0; c < channels; ++c) {
        const std::int8_t code = w[(row * taps + tap) * channels + c];
        const std::int64_t quad = tap * p.quads() + c / 4;
        panel[(quad * kPanel + row % kPanel) * 4 + c % 4] = code;
        p.max_abs = larger_magnitude(p.max_abs, code);
        p.row_sum[static_cast<std::size_t>(row)] += code;
      }
  }
  return p;
}

std::int64_t PackedDepthwise::quads() const {
  const std::int64_t last_row = has_last_row() ? 8 : 0;
  return kernel_width * quads_a_column() + last_row;
}

PackedDepthwise pack_depthwise(const std::int8_t* w, std::int64_t channels,
                               std::int64_t kernel_height, std::int64_t kernel_width,
                               std::int64_t vector_bytes) {
  PackedDepthwise p;
  p.channels = channels;
  p.kernel_height = kernel_height;
  p.kernel_width = kernel_width;
  p.vector_bytes = vector_bytes;
  p.data =
      AlignedBuffer(static_cast<std::size_t>(round_up(channels, kDepthwiseLane) * 4 * p.quads()));
  p.row_sum.assign(static_cast<std::size_t>(p.padded_n()), 0);

  const std::int64_t taps = kernel_height * kernel_width;
  for (std::int64_t i = 0; i < channels * taps; ++i) {
    p.row_sum[static_cast<std::size_t>(i / taps)] += w[i];
    p.max_abs = larger_magnitude(p.max_abs, w[i]);
  }

  auto* bytes = reinterpret_cast<std::int8_t*>(p.data.data());
  for (std::int64_t first = 0; first < channels;) {
    const std::int64_t width = depthwise_block(channels, first, vector_bytes);
    pack_depthwise_block(w + first * taps, std::min(width, channels - first), width, p,
                         bytes + first * 4 * p.quads());
    first += width;
  }
  return p;
}

}  // namespace quell::kernels
