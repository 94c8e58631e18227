// The kernel text of dense and 1x1 convolutions over `Vectors`. A block is a few pixels by one to
// four vectors of output columns, whose sums stay in registers over all taps and channels, and
// mostly until they are codes.
#pragma once

#include "quell/kernels/conv_s8/code_writer.h"

namespace quell::kernels {
namespace {

/// Where the codes of output pixels lie: a pointer for each tap and pixel, or rows `ldx` apart.
struct ConvInput {
  const std::uint8_t* const* rows = nullptr;
  std::int64_t pixels = 0;
  const std::uint8_t* x = nullptr;
  std::int64_t ldx = 0;

  QUELL_SIMD const std::uint8_t* row(std::int64_t tap, std::int64_t pixel) const {
    return rows != nullptr ? rows[tap * pixels + pixel] : x + pixel * ldx;
  }
};

/// kVectors vectors of output columns, and what is needed for each. They begin with a panel, so
/// that the places of their weights are a few constants apart.
template <typename V, int kVectors>
struct Strip {
  static constexpr int kRowsInRegister = kVectors >= 3 ? 1 : 4 / kVectors;
  static constexpr int kPanels = (kVectors * V::kWidth + kPanel - 1) / kPanel;

  std::int64_t column, taps, quads, panel_bytes;
  const std::int8_t* weights;
  /// Weights of the next strip come closer meanwhile: from `ahead` on, some with every pixel.
  const std::int8_t* ahead;
  std::int64_t ahead_a_pixel;
  typename V::I32 offset[kVectors];
  typename V::F32 scale[kVectors], bias[kVectors];
  typename V::Lanes lanes[kVectors];  ///< which columns of each vector exist
  typename V::Bytes bytes;            ///< and of a row of codes

  /// Columns [first, end), that many pixels.
  Strip(const PackedConv& w, const Epilogue& e, std::int64_t first, std::int64_t end,
        std::int64_t pixels)
      : column(first),
        taps(w.taps),
        quads(w.quads()),
        panel_bytes(w.panel_bytes()),
        weights(w.panel(first / kPanel) + first % kPanel * 4),
        ahead(w.panel(first / kPanel + kPanels < w.panels() ? first / kPanel + kPanels : 0)),
        ahead_a_pixel(kPanels * w.panel_bytes() / pixels),
        bytes(V::template some_bytes<kRowsInRegister>(end - first)) {
    for (int v = 0; v < kVectors; ++v) {
      const std::int64_t c = first + v * V::kWidth;
      offset[v] = typename V::I32{};
      if (e.column_offset != nullptr)
        offset[v] = V::template load<typename V::I32>(e.column_offset + c);
      scale[v] = V::template load<typename V::F32>(e.scale + c);
      bias[v] = V::template load<typename V::F32>(e.bias + c);
      lanes[v] = V::some_lanes(end - c);
    }
  }
};

/// Adds all taps of kRows pixels. `valid`: pixels that exist; the others repeat the last.
template <typename V, int kRows, int kVectors>
QUELL_SIMD void accumulate(const ConvInput& in, std::int64_t pixel, int valid,
                           const Strip<V, kVectors>& strip,
                           typename V::I32 (&sum)[kRows][kVectors]) {
  constexpr int kPanelVectors = kPanel / V::kWidth;
  const std::int8_t* weights = strip.weights;
  const std::int8_t* ahead = strip.ahead + pixel * strip.ahead_a_pixel;
  const std::int64_t ahead_a_quad = strip.ahead_a_pixel * kRows / (strip.taps * strip.quads) + 1;
  for (std::int64_t tap = 0; tap < strip.taps; ++tap) {
    const std::uint8_t* x[kRows];
    unrolled<kRows>(QUELL_UNROLLED(r) { x[r] = in.row(tap, pixel + (r < valid ? r : valid - 1)); });

    for (std::int64_t q = 0; q < strip.quads; ++q, weights += kPanel * 4) {
      __builtin_prefetch(ahead, 0, 2);
      ahead += ahead_a_quad;
      typename V::Weights quad_weights[kVectors];
      unrolled<kVectors>(QUELL_UNROLLED(v) {
        const std::int8_t* panel = weights + v / kPanelVectors * strip.panel_bytes;
        const std::int8_t* place = panel + v % kPanelVectors * V::kSize;
        quad_weights[v] = V::weights(V::template load<typename V::U8>(place));
      });
      unrolled<kRows>(QUELL_UNROLLED(r) {
        const typename V::Codes codes = V::codes((typename V::U8)V::broadcast(x[r] + 4 * q));
        unrolled<kVectors>(
            QUELL_UNROLLED(v) { sum[r][v] = V::dot(sum[r][v], codes, quad_weights[v]); });
      });
    }
  }
}

/// Four vectors of codes become one register of bytes: of one row, two rows or four.
template <typename V, int kRows, int kVectors, CodePath kPath>
QUELL_SIMD void store_codes(const CodeWriter<V>& writer,
                            const typename V::I32 (&codes)[kRows][kVectors], std::int64_t row,
                            int valid, const Strip<V, kVectors>& strip) {
  constexpr int kParts = Strip<V, kVectors>::kRowsInRegister;
  static_assert(kRows % kParts == 0);

  unrolled<kRows / kParts>(QUELL_UNROLLED(group) {
    constexpr int kFirst = group * kParts;
    const auto of = QUELL_UNROLLED(i) {
      constexpr int kVector = kParts > 1 ? i % kVectors : (i < kVectors ? i : kVectors - 1);
      constexpr int kRow = kParts > 1 ? kFirst + i / kVectors : kFirst;
      return codes[kRow][kVector];
    };
    const typename V::U8 bytes = V::in_order(writer.template packed<kPath>(
        of(Index<0>{}), of(Index<1>{}), of(Index<2>{}), of(Index<3>{})));
    unrolled<kParts>(QUELL_UNROLLED(part) {
      std::uint8_t* out = writer.out(row + kFirst + part, strip.column);
      if (kFirst + part < valid) V::template store_part<kParts, part>(out, bytes, strip.bytes);
    });
  });
}

template <typename V, int kRows, int kVectors, CodePath kPath>
QUELL_SIMD void block_to_codes(const ConvInput& in, std::int64_t pixel, int valid,
                               const CodeWriter<V>& writer, std::int64_t row0,
                               const Strip<V, kVectors>& strip) {
  typename V::I32 sum[kRows][kVectors];
  unrolled<kVectors>(
      QUELL_UNROLLED(v) { unrolled<kRows>(QUELL_UNROLLED(r) { sum[r][v] = strip.offset[v]; }); });
  accumulate<V, kRows, kVectors>(in, pixel, valid, strip, sum);

  unrolled<kVectors>(QUELL_UNROLLED(v) {
    unrolled<kRows>(QUELL_UNROLLED(r) {
      const std::int64_t row = row0 + pixel + (r < valid ? r : valid - 1);
      const std::int64_t residual = row * writer.ld_residual + strip.column + v * V::kWidth;
      sum[r][v] = writer.template rounded<kPath>(sum[r][v], strip.scale[v], strip.bias[v], residual,
                                                 strip.lanes[v]);
    });
  });
  store_codes<V, kRows, kVectors, kPath>(writer, sum, row0 + pixel, valid, strip);
}

/// All pixels of a strip.
template <typename V, int kVectors, CodePath kPath>
void strip_to_codes(ConvInput in, const PackedConv& w, const Epilogue& e, std::int64_t row0,
                    std::int64_t column, std::int64_t end) {
  constexpr int kRows = V::rows(kVectors), kFewRows = kVectors >= 3 ? 2 : 4;
  const CodeWriter<V> writer(e);
  const Strip<V, kVectors> strip(w, e, column, end, in.pixels);

  std::int64_t pixel = 0;
  for (; pixel + kRows <= in.pixels; pixel += kRows)
    block_to_codes<V, kRows, kVectors, kPath>(in, pixel, kRows, writer, row0, strip);
  for (; pixel < in.pixels; pixel += kFewRows) {
    const std::int64_t left = in.pixels - pixel;
    const int valid = left < kFewRows ? static_cast<int>(left) : kFewRows;
    block_to_codes<V, kFewRows, kVectors, kPath>(in, pixel, valid, writer, row0, strip);
  }
}

template <typename V, CodePath kPath>
void strips_to_codes(const ConvInput& in, const PackedConv& w, const Epilogue& e, std::int64_t row0,
                     std::int64_t begin, std::int64_t end) {
  for (std::int64_t column = begin; column < end;) {
    // All but the last begin with a panel; a lone vector would wait for its operands.
    const std::int64_t left = (end - column + V::kWidth - 1) / V::kWidth;
    std::int64_t vectors = left < V::kMaxVectors ? left : V::kMaxVectors;
    if (left == 5 && V::kMaxVectors == 4) vectors = 2;
    const std::int64_t next = column + vectors * V::kWidth;
    const std::int64_t strip_end = next < end ? next : end;
    switch (vectors) {
      case 1: strip_to_codes<V, 1, kPath>(in, w, e, row0, column, strip_end); break;
      case 2: strip_to_codes<V, 2, kPath>(in, w, e, row0, column, strip_end); break;
      case 3:
        if constexpr (V::kMaxVectors >= 3)
          strip_to_codes<V, 3, kPath>(in, w, e, row0, column, strip_end);
        break;
      default:
        if constexpr (V::kMaxVectors >= 4)
          strip_to_codes<V, 4, kPath>(in, w, e, row0, column, strip_end);
        break;
    }
    column = next;
  }
}

/// The general way: sums to a tile, and the epilogue of gemm_s8.
template <typename V>
void tiles(const ConvInput& in, const PackedConv& w, const Epilogue& e, std::int64_t row0,
           std::int64_t panel_begin, std::int64_t panel_end) {
  constexpr int kRows = 4, kVectors = 2;
  Tile tile{};
  for (std::int64_t panel = panel_begin; panel < panel_end; ++panel)
    for (std::int64_t pixel = 0; pixel < in.pixels; pixel += kRows) {
      const std::int64_t left = in.pixels - pixel;
      const int valid = left < kRows ? static_cast<int>(left) : kRows;
      for (std::int64_t c = 0; c < kPanel; c += kVectors * V::kWidth) {
        const Strip<V, kVectors> strip(w, e, panel * kPanel + c, w.n, in.pixels);
        typename V::I32 sum[kRows][kVectors] = {};
        accumulate<V, kRows, kVectors>(in, pixel, valid, strip, sum);
        for (int r = 0; r < kRows; ++r)
          for (int v = 0; v < kVectors; ++v)
            V::store(tile.sum + r * kPanel + c + v * V::kWidth, sum[r][v]);
      }
      finish_tile(tile, valid, row0 + pixel, panel, w.n, false, e);
    }
}

template <typename V>
void any_conv(const ConvInput& in, const PackedConv& w, const Epilogue& e, std::int64_t row0,
              std::int64_t panel_begin, std::int64_t panel_end) {
  if (!goes_straight_to_codes(e)) return tiles<V>(in, w, e, row0, panel_begin, panel_end);
  const std::int64_t begin = panel_begin * kPanel;
  const std::int64_t end = panel_end * kPanel < w.n ? panel_end * kPanel : w.n;
  switch (code_path(e, begin, end)) {
    case CodePath::kFromZero:
      return strips_to_codes<V, CodePath::kFromZero>(in, w, e, row0, begin, end);
    case CodePath::kPlain: return strips_to_codes<V, CodePath::kPlain>(in, w, e, row0, begin, end);
    case CodePath::kResidualCodes:
      return strips_to_codes<V, CodePath::kResidualCodes>(in, w, e, row0, begin, end);
    case CodePath::kResidualF32:
      return strips_to_codes<V, CodePath::kResidualF32>(in, w, e, row0, begin, end);
  }
}

template <template <int> class Vectors>
void dense_conv(const std::uint8_t* const* rows, std::int64_t pixels, const PackedConv& w,
                const Epilogue& e, std::int64_t row0, std::int64_t panel_begin,
                std::int64_t panel_end) {
  ConvInput in;
  in.rows = rows;
  in.pixels = pixels;
  any_conv<Vectors<Vectors<16>::kWidest>>(in, w, e, row0, panel_begin, panel_end);
}

template <template <int> class Vectors>
void pointwise_conv(const std::uint8_t* x, std::int64_t ldx, std::int64_t pixels,
                    const PackedConv& w, const Epilogue& e, std::int64_t row0,
                    std::int64_t panel_begin, std::int64_t panel_end) {
  ConvInput in;
  in.pixels = pixels;
  in.x = x;
  in.ldx = ldx;
  any_conv<Vectors<Vectors<16>::kWidest>>(in, w, e, row0, panel_begin, panel_end);
}

}  // namespace
}  // namespace quell::kernels
