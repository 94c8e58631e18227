// The kernel text of depthwise convolutions over `Vectors`. The codes of a block of channels in one
// column of the image, four rows of it, are interleaved to units of four taps once, and serve all
// outputs of a group of neighbours that see the column. Interleaving and packing undo each other's
// order, so channels leave as they came. A block of few channels fills the register with the same
// channels of several such groups.
#pragma once

#include "quell/kernels/conv_s8/code_writer.h"
#include "quell/kernels/conv_s8/depthwise_layout.h"

namespace quell::kernels {
namespace {

/// Outputs side by side that share their columns.
inline constexpr int kNeighbours = 4;

/// A block of channels: its first, how many of them exist, its weights.
struct ChannelBlock {
  std::int64_t channel, count;
  const std::int8_t* weights;
};

/// Registers for kGroupCount groups of outputs, each with a part of the register.
template <typename V, int kGroupCount>
struct Grouped : V {
  static constexpr int kGroups = kGroupCount;
  static constexpr int kBlock = V::kSize / kGroups;  ///< channels
  static constexpr int kGroupWidth = V::kWidth / kGroups;

  QUELL_SIMD static typename V::Weights block_weights(const std::int8_t* p) {
    if constexpr (kGroups == 1)
      return V::weights(V::template load<typename V::U8>(p));
    else
      return V::weights(V::template repeat<kGroups>(p));
  }
  /// A row of codes of each group; `step` pointers between groups.
  QUELL_SIMD static typename V::U8 block_codes(const std::uint8_t* const* row, std::int64_t step,
                                               std::int64_t channel) {
    if constexpr (kGroups == 1) {
      return V::template load<typename V::U8>(*row + channel);
    } else {
      const std::uint8_t* rows[kGroups];
      unrolled<kGroups>(QUELL_UNROLLED(group) { rows[group] = row[group * step] + channel; });
      return V::join(rows);
    }
  }
};

/// Vectors over the channels of a block in the order of its sums.
template <typename G>
struct BlockConstants {
  alignas(64) std::int32_t offset[G::kSize];
  alignas(64) float scale[G::kSize], bias[G::kSize];

  BlockConstants(const Epilogue& e, std::int64_t channel) {
    for (std::int64_t c = 0; c < G::kBlock; c += 4) {
      const std::int64_t position = depthwise_position(G::kBlock, c), from = channel + c;
      for (std::int64_t group = 0; group < G::kGroups; ++group) {
        const std::int64_t to = position / G::kGroupWidth * G::kWidth + group * G::kGroupWidth +
                                position % G::kGroupWidth;
        if (e.column_offset != nullptr)
          std::memcpy(offset + to, e.column_offset + from, 4 * sizeof(std::int32_t));
        else
          std::memset(offset + to, 0, 4 * sizeof(std::int32_t));
        std::memcpy(scale + to, e.scale + from, 4 * sizeof(float));
        std::memcpy(bias + to, e.bias + from, 4 * sizeof(float));
      }
    }
  }
};

template <typename G>
QUELL_SIMD void add_quad(const typename G::U8 (&quads)[4], const std::int8_t* weights,
                         std::int64_t quad, typename G::I32 (&sum)[4]) {
  unrolled<4>(QUELL_UNROLLED(i) {
    const typename G::Weights w = G::block_weights(weights + (quad * 4 + i) * G::kBlock);
    sum[i] = G::dot(sum[i], G::codes(quads[i]), w);
  });
}

/// The codes of up to four rows of a column, interleaved.
template <typename G>
QUELL_SIMD void load_quads(const std::uint8_t* const* column, std::int64_t rows,
                           std::int64_t group_step, std::int64_t channel,
                           typename G::U8 (&quads)[4]) {
  const auto row = [&](int t) __attribute__((always_inline)) {
    return t < rows ? G::block_codes(column + t, group_step, channel) : typename G::U8{};
  };
  G::interleave(row(0), row(1), row(2), row(3), quads);
}

/// For each group, kOutputs neighbouring outputs of a kHeight x kWidth filter without dilation.
template <typename G, int kHeight, int kWidth, int kStride, int kOutputs>
QUELL_SIMD void add_outputs(const std::uint8_t* const* columns, const ChannelBlock& block,
                            typename G::I32 (&sum)[kOutputs][4]) {
  constexpr int kColumnQuads = (kHeight + 3) / 4;
  // The fifth row of neighbouring outputs: in units side by side instead.
  constexpr bool kLastRow = kHeight == 5 && kWidth == 5 && kStride == 1 && kOutputs == 4;
  constexpr int kVerticalQuads = kLastRow ? 1 : kColumnQuads;
  constexpr int kColumns = (kOutputs - 1) * kStride + kWidth;
  constexpr int kGroupStep = kOutputs * kStride * kHeight;

  unrolled<kColumns * kVerticalQuads>(QUELL_UNROLLED(step) {
    constexpr int kColumn = step / kVerticalQuads, kQuad = step % kVerticalQuads;
    typename G::U8 quads[4];
    load_quads<G>(columns + kColumn * kHeight + kQuad * 4, kHeight - kQuad * 4, kGroupStep,
                  block.channel, quads);
    unrolled<kOutputs>(QUELL_UNROLLED(output) {
      constexpr int kTap = kColumn - output * kStride;
      if constexpr (kTap >= 0 && kTap < kWidth)
        add_quad<G>(quads, block.weights, kTap * kColumnQuads + kQuad, sum[output]);
    });
  });
  if constexpr (!kLastRow) return;

  unrolled<2>(QUELL_UNROLLED(half) {
    const auto column = QUELL_UNROLLED(i) {
      const std::uint8_t* const* last_row = columns + (half * 4 + i) * kHeight + kHeight - 1;
      return G::block_codes(last_row, kGroupStep, block.channel);
    };
    typename G::U8 quads[4];
    G::interleave(column(Index<0>{}), column(Index<1>{}), column(Index<2>{}), column(Index<3>{}),
                  quads);
    unrolled<kOutputs>(QUELL_UNROLLED(output) {
      add_quad<G>(quads, block.weights, kWidth * kColumnQuads + output * 2 + half, sum[output]);
    });
  });
}

/// One output of any filter.
template <typename G>
QUELL_SIMD void add_any_output(const std::uint8_t* const* columns, const DepthwiseRows& rows,
                               const PackedDepthwise& w, std::int64_t x, const ChannelBlock& block,
                               typename G::I32 (&sum)[4]) {
  const std::int64_t column_quads = w.quads_a_column();
  for (std::int64_t u = 0; u < w.kernel_width; ++u) {
    const std::int64_t column = x * rows.stride + u * rows.dilation;
    for (std::int64_t g = 0; g < column_quads; ++g) {
      typename G::U8 quads[4];
      load_quads<G>(columns + column * w.kernel_height + g * 4, w.kernel_height - g * 4, 0,
                    block.channel, quads);
      add_quad<G>(quads, block.weights, u * column_quads + g, sum);
    }
  }
}

template <typename G, int kOutputs>
QUELL_SIMD void start_sums(const BlockConstants<G>& constants,
                           typename G::I32 (&sum)[kOutputs][4]) {
  unrolled<4>(QUELL_UNROLLED(i) {
    const auto offset = G::template load<typename G::I32>(constants.offset + i * G::kWidth);
    unrolled<kOutputs>(QUELL_UNROLLED(output) { sum[output][i] = offset; });
  });
}

/// Outputs from `row` on, group by group.
template <typename G, int kOutputs, CodePath kPath>
QUELL_SIMD void write_codes(const CodeWriter<G>& writer, const BlockConstants<G>& constants,
                            std::int64_t row, const ChannelBlock& block,
                            typename G::I32 (&sum)[kOutputs][4]) {
  const typename G::Bytes bytes = G::template some_bytes<G::kGroups>(block.count);
  unrolled<kOutputs>(QUELL_UNROLLED(output) {
    unrolled<4>(QUELL_UNROLLED(i) {
      const auto scale = G::template load<typename G::F32>(constants.scale + i * G::kWidth);
      const auto bias = G::template load<typename G::F32>(constants.bias + i * G::kWidth);
      typename G::I32& s = sum[output][i];
      s = writer.template rounded<kPath>(s, scale, bias, 0, {});
    });
    const typename G::U8 codes = writer.template packed<kPath>(sum[output][0], sum[output][1],
                                                               sum[output][2], sum[output][3]);
    unrolled<G::kGroups>(QUELL_UNROLLED(group) {
      std::uint8_t* out = writer.out(row + group * kOutputs + output, block.channel);
      G::template store_part<G::kGroups, group>(out, codes, bytes);
    });
  });
}

/// One row of outputs: kOutputs of each group at a time, the last ones overlapping those before.
template <typename G, CodePath kPath, int kSize, int kStride>
QUELL_SIMD void row_to_codes(const std::uint8_t* const* columns, std::int64_t pixels,
                             const CodeWriter<G>& writer, const BlockConstants<G>& constants,
                             std::int64_t row, const ChannelBlock& block) {
  constexpr int kOutputs = kNeighbours, kTogether = kOutputs * G::kGroups;
  for (std::int64_t next = 0; next < pixels; next += kTogether) {
    const std::int64_t x = next + kTogether <= pixels ? next : pixels - kTogether;
    typename G::I32 sum[kOutputs][4];
    start_sums<G, kOutputs>(constants, sum);
    add_outputs<G, kSize, kSize, kStride, kOutputs>(columns + x * kStride * kSize, block, sum);
    write_codes<G, kOutputs, kPath>(writer, constants, row + x, block, sum);
  }
}

template <typename G, CodePath kPath, int kSize, int kStride>
void block_to_codes(const DepthwiseRows rows, const Epilogue& e, std::int64_t row0,
                    const ChannelBlock block) {
  const CodeWriter<G> writer(e);
  const BlockConstants<G> constants(e, block.channel);
  for (std::int64_t y = 0; y < rows.rows; ++y)
    row_to_codes<G, kPath, kSize, kStride>(rows.columns + y * rows.pointers_a_row, rows.pixels,
                                           writer, constants, row0 + y * rows.pixels, block);
}

/// Any filter, stride, dilation and number of pixels.
template <typename G>
void any_block_to_codes(const DepthwiseRows& rows, const PackedDepthwise& w, const Epilogue& e,
                        std::int64_t row0, const ChannelBlock& block) {
  const CodeWriter<G> writer(e);
  const BlockConstants<G> constants(e, block.channel);
  for (std::int64_t i = 0; i < rows.rows * rows.pixels; ++i) {
    const std::uint8_t* const* columns = rows.columns + i / rows.pixels * rows.pointers_a_row;
    typename G::I32 sum[1][4];
    start_sums<G, 1>(constants, sum);
    add_any_output<G>(columns, rows, w, i % rows.pixels, block, sum[0]);
    write_codes<G, 1, CodePath::kPlain>(writer, constants, row0 + i, block, sum);
  }
}

/// The general way: sums to tiles of 32 channels, and the epilogue of gemm_s8.
template <typename G>
void block_to_tiles(const DepthwiseRows& rows, const PackedDepthwise& w, const Epilogue& e,
                    std::int64_t row0, const ChannelBlock& block) {
  Tile tile{};
  for (std::int64_t i = 0; i < rows.rows * rows.pixels; ++i) {
    const std::uint8_t* const* columns = rows.columns + i / rows.pixels * rows.pointers_a_row;
    typename G::I32 sum[4] = {};
    add_any_output<G>(columns, rows, w, i % rows.pixels, block, sum);
    std::int32_t lanes[G::kSize];
    std::memcpy(lanes, sum, sizeof(lanes));

    for (std::int64_t first = 0; first < G::kSize; first += kPanel) {
      for (std::int64_t c = first; c < first + kPanel && c < G::kSize; ++c)
        tile.sum[c - first] = lanes[depthwise_position(G::kSize, c)];
      finish_tile(tile, 1, row0 + i, (block.channel + first) / kPanel, w.channels, false, e);
    }
  }
}

template <typename G, CodePath kPath>
void filter_to_codes(const DepthwiseRows& rows, const PackedDepthwise& w, const Epilogue& e,
                     std::int64_t row0, const ChannelBlock& block) {
  const bool five = w.kernel_height == 5;
  if (rows.stride == 1)
    five ? block_to_codes<G, kPath, 5, 1>(rows, e, row0, block)
         : block_to_codes<G, kPath, 3, 1>(rows, e, row0, block);
  else
    five ? block_to_codes<G, kPath, 5, 2>(rows, e, row0, block)
         : block_to_codes<G, kPath, 3, 2>(rows, e, row0, block);
}

/// Whether there is a text for this filter.
inline bool has_own_text(const DepthwiseRows& rows, const PackedDepthwise& w) {
  const bool size = w.kernel_height == 3 || w.kernel_height == 5;
  const bool square = w.kernel_height == w.kernel_width;
  const bool step = rows.stride == 1 || rows.stride == 2;
  return size && square && step && rows.dilation == 1 && rows.pixels >= kNeighbours;
}

template <template <int> class Vectors, int kBlock>
void depthwise_block_of(const DepthwiseRows& rows, const PackedDepthwise& w, const Epilogue& e,
                        std::int64_t row0, const ChannelBlock& block) {
  constexpr int kWidest = Vectors<16>::kWidest;
  using Narrow = Grouped<Vectors<kBlock>, 1>;
  using Wide = Grouped<Vectors<kWidest>, kWidest / kBlock>;
  if (!goes_straight_to_codes(e) || e.residual.present())
    return block_to_tiles<Narrow>(rows, w, e, row0, block);
  if (!has_own_text(rows, w)) return any_block_to_codes<Narrow>(rows, w, e, row0, block);

  const bool wide = rows.pixels >= kNeighbours * Wide::kGroups;
  if (code_path(e, block.channel, block.channel + block.count) == CodePath::kFromZero)
    wide ? filter_to_codes<Wide, CodePath::kFromZero>(rows, w, e, row0, block)
         : filter_to_codes<Narrow, CodePath::kFromZero>(rows, w, e, row0, block);
  else
    wide ? filter_to_codes<Wide, CodePath::kPlain>(rows, w, e, row0, block)
         : filter_to_codes<Narrow, CodePath::kPlain>(rows, w, e, row0, block);
}

template <template <int> class Vectors>
void depthwise_conv(const DepthwiseRows& rows, const PackedDepthwise& w, const Epilogue& e,
                    std::int64_t row0, std::int64_t channel_begin, std::int64_t channel_end) {
  constexpr int kWidest = Vectors<16>::kWidest;
  const auto* weights = reinterpret_cast<const std::int8_t*>(w.data.data());
  for (std::int64_t channel = channel_begin; channel < channel_end;) {
    const std::int64_t width = depthwise_block(w.channels, channel, kWidest);
    const std::int64_t left = w.channels - channel;
    const ChannelBlock block{channel, left < width ? left : width,
                             weights + channel * 4 * w.quads()};
    if (width == 16)
      depthwise_block_of<Vectors, 16>(rows, w, e, row0, block);
    else if (width == 32)
      depthwise_block_of<Vectors, 32>(rows, w, e, row0, block);
    else if constexpr (kWidest == 64)
      depthwise_block_of<Vectors, 64>(rows, w, e, row0, block);
    channel += width;
  }
}

}  // namespace
}  // namespace quell::kernels
