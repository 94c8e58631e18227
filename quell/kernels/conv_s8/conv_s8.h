// Integer convolutions: exact int32 sums of u8 activation codes and s8 weight codes, and the
// epilogue of gemm_s8 behind them. Unlike a matrix product behind an im2col, they take their rows
// through pointers, do not pad K beyond units of four channels a tap, and know filters of one
// channel. One source file per ISA; all give the same bytes as reference.cpp. README.md here
// describes the packed layouts.
//
// All of them: activation codes are u8 with one static step (the epilogue's column_offset holds
// -zero * row_sum), weights are symmetric, by channel or by tensor. Padding is a row of zero
// points, which the caller keeps. Vectors over output channels of the epilogue have padded_n
// elements. Where codes are written and nothing but a residual follows the bias (ReLU and ReLU6
// are bounds of the codes then), sums go from registers to codes; other epilogues take the general
// way through a tile.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "quell/base/aligned_buffer.h"
#include "quell/base/cpu_features.h"
#include "quell/kernels/gemm_s8/gemm_s8.h"

namespace quell::kernels {

/// Weights of a dense convolution: panels of 32 output channels, each
/// [taps][ceil(channels / 4)][32][4] s8. Channels past `channels` and outputs past `n` are 0.
struct PackedConv {
  std::int64_t n = 0;         ///< output channels
  std::int64_t taps = 0;      ///< kernel height * width
  std::int64_t channels = 0;  ///< input channels that an output sees (of its group)
  int max_abs = 0;            ///< bound of the codes present, part of the kernel choice
  AlignedBuffer data;
  std::vector<std::int32_t> row_sum;  ///< [padded_n], over taps and channels

  std::int64_t padded_n() const { return round_up(n, kPanel); }
  std::int64_t panels() const { return padded_n() / kPanel; }
  /// Units of four channels in a tap.
  std::int64_t quads() const { return round_up(channels, 4) / 4; }
  std::int64_t panel_bytes() const { return taps * quads() * kPanel * 4; }
  const std::int8_t* panel(std::int64_t index) const {
    return reinterpret_cast<const std::int8_t*>(data.data()) + index * panel_bytes();
  }
};

/// w: [n, taps, channels] codes.
PackedConv pack_conv(const std::int8_t* w, std::int64_t n, std::int64_t taps,
                     std::int64_t channels);

/// rows[tap * pixels + i]: the `channels` codes that tap `tap` of output pixel i sees. Bytes behind
/// them up to the next multiple of four are read, their weights are 0. Writes output rows row0 + i
/// of the epilogue, columns of panels [panel_begin, panel_end).
using ConvS8 = void (*)(const std::uint8_t* const* rows, std::int64_t pixels, const PackedConv& w,
                        const Epilogue& e, std::int64_t row0, std::int64_t panel_begin,
                        std::int64_t panel_end);

/// The same for one tap whose rows lie `ldx` bytes apart, ldx >= channels rounded up to four (the
/// bytes between may hold anything).
using PointwiseS8 = void (*)(const std::uint8_t* x, std::int64_t ldx, std::int64_t pixels,
                             const PackedConv& w, const Epilogue& e, std::int64_t row0,
                             std::int64_t panel_begin, std::int64_t panel_end);

/// Channel ranges of depthwise calls begin at multiples of this, and end there or at the end.
inline constexpr std::int64_t kDepthwiseUnit = 64;

/// Weights of a depthwise convolution, one filter a channel. The layout is that of one vector
/// width; see README.md.
struct PackedDepthwise {
  std::int64_t channels = 0;
  std::int64_t kernel_height = 0, kernel_width = 0;
  std::int64_t vector_bytes = 0;  ///< of the kernel it is packed for
  int max_abs = 0;
  AlignedBuffer data;
  std::vector<std::int32_t> row_sum;  ///< [padded_n], over taps

  std::int64_t padded_n() const { return round_up(channels, kPanel); }
  /// Units of four taps that lie below each other, in one column of the filter.
  std::int64_t quads_a_column() const { return round_up(kernel_height, 4) / 4; }
  /// 5x5 filters hold their last row a second time, as units of taps side by side.
  bool has_last_row() const { return kernel_height == 5 && kernel_width == 5; }
  std::int64_t quads() const;
};

/// w: [channels, kernel_height, kernel_width] codes; `vector_bytes` of the kernel that will read
/// them.
PackedDepthwise pack_depthwise(const std::int8_t* w, std::int64_t channels,
                               std::int64_t kernel_height, std::int64_t kernel_width,
                               std::int64_t vector_bytes);

/// What rows of output pixels of a depthwise convolution see: columns[c * kernel_height + t] is the
/// row of codes that tap row t sees in column c of the padded image; tap (t, u) of output pixel x
/// sees columns[(x * stride + u * dilation) * kernel_height + t]. Channels past the last, up to the
/// next multiple of 16, may be read. More rows of outputs in one call share what has to be prepared
/// for one: where images are small, that is worth it.
struct DepthwiseRows {
  const std::uint8_t* const* columns;
  std::int64_t stride = 1, dilation = 1;  ///< from left to right
  std::int64_t pixels = 0;                ///< in a row of outputs
  std::int64_t rows = 1;
  std::int64_t pointers_a_row = 0;  ///< in `columns`, from one row of outputs to the next
};

/// Writes output rows row0 + y * pixels + x of the epilogue, channels [channel_begin, channel_end).
using DepthwiseS8 = void (*)(const DepthwiseRows& rows, const PackedDepthwise& w, const Epilogue& e,
                             std::int64_t row0, std::int64_t channel_begin,
                             std::int64_t channel_end);

struct ConvS8Kernel {
  std::string_view name;
  Isa isa;
  /// Largest product bound max(x) * max|w| the kernel is exact for.
  int max_product;
  std::int64_t row_unit;      ///< a block of pixels should be a multiple
  std::int64_t vector_bytes;  ///< for pack_depthwise
  ConvS8 dense;
  PointwiseS8 pointwise;
  DepthwiseS8 depthwise;
};

/// All kernels compiled in, fastest last within an ISA.
std::span<const ConvS8Kernel> conv_s8_kernels();

/// The fastest kernel on `isa` or a weaker one that is exact for codes up to `max_x` and
/// `max_abs_w`.
const ConvS8Kernel& choose_conv_s8(Isa isa, int max_x, int max_abs_w);

}  // namespace quell::kernels
