// What follows the integer sums of one tile, stage by stage on a scratch tile that stays in L1.
// Included by every kernel file, so that it is compiled with that file's ISA; the text is one, and
// so are the bytes.
#pragma once

#include "quell/kernels/gemm_s8/panels.h"
#include "quell/kernels/simd/activations.h"

namespace quell::kernels {
namespace {

inline constexpr int kMaxTileRows = 32;
inline constexpr std::int64_t kCacheLine = 64;
static_assert(kErrorLanes == kLanes);

/// [rows][32] int32 sums, then f32 values in place.
struct alignas(64) Tile {
  std::int32_t sum[kMaxTileRows * kPanel];

  std::int32_t* at(int row, int half) { return sum + row * kPanel + half * kLanes; }
  F32 value(int row, int half) { return bits_to_f32(load(at(row, half))); }
  void set(int row, int half, const F32& v) { store(at(row, half), f32_to_bits(v)); }
};

/// Calls sink(row, half, value) with every dequantized sum.
template <bool kRowwise, bool kAsymmetric, typename Sink>
QUELL_SIMD void dequantize_tile(Tile& tile, int rows, std::int64_t row0, std::int64_t column0,
                                const Epilogue& e, Sink sink) {
  const float* row_scale = kRowwise ? e.row_scale + row0 : nullptr;
  const std::int32_t *row_zero = kRowwise ? e.row_zero + row0 : nullptr,
                     *row_term = kAsymmetric ? e.row_term + row0 : nullptr;
  for (int h = 0; h < 2; ++h) {
    const std::int64_t column = column0 + h * kLanes;
    const F32 scale = load(e.scale + column), bias = load(e.bias + column);
    const I32 offset = e.column_offset ? load(e.column_offset + column) : splat(0);
    const I32 zero_factor = kRowwise ? load(e.column_zero_factor + column) : splat(0);
    const I32 weight_zero = kAsymmetric ? load(e.weight_zero + column) : splat(0);
    for (int r = 0; r < rows; ++r) {
      I32 sum = load(tile.at(r, h)) + offset;
      F32 step = scale;
      if constexpr (kRowwise) {
        sum = sum + row_zero[r] * zero_factor;
        step = row_scale[r] * scale;
      }
      if constexpr (kAsymmetric) sum = sum + row_term[r] * weight_zero;
      sink(r, h, step * to_f32(sum) + bias);
    }
  }
}

QUELL_SIMD void activate_tile(Tile& tile, int rows, const Epilogue& e) {
  const int halves = e.gated ? 1 : 2;
  with_activation(e.activation, [&](auto act) {
    for (int h = 0; h < halves; ++h)
      for (int r = 0; r < rows; ++r) tile.set(r, h, act(tile.value(r, h)));
  });
  if (e.gated)
    for (int r = 0; r < rows; ++r) tile.set(r, 0, tile.value(r, 0) * tile.value(r, 1));
}

QUELL_SIMD F32 residual_at(const ResidualArgs& a, std::int64_t row, std::int64_t column,
                           std::int64_t count) {
  F32 v;
  if (a.codes) {
    const std::uint8_t* p = a.codes + row * a.ld + column;
    v = ((count == kLanes ? u8_to_f32(p) : u8_to_f32_some(p, count)) - a.zero) * a.scale;
  } else {
    const float* p = a.f32 + row * a.ld + column;
    v = count == kLanes ? load(p) : load_some(p, count);
  }
  if (a.column_scale)
    v = v * (count == kLanes ? load(a.column_scale + column)
                             : load_some(a.column_scale + column, count));
  if (a.column_shift)
    v = v + (count == kLanes ? load(a.column_shift + column)
                             : load_some(a.column_shift + column, count));
  return v;
}

/// Writes values of columns [column, column + count) of a row.
struct Writer {
  const Epilogue& e;
  F32 inv_scale;
  I32 zero, low, high;

  QUELL_SIMD explicit Writer(const Epilogue& epilogue)
      : e(epilogue),
        inv_scale(splat(epilogue.code_args.inv_scale)),
        zero(splat(epilogue.code_args.zero)),
        low(splat(epilogue.code_args.low)),
        high(splat(epilogue.code_args.high)) {}

  QUELL_SIMD void operator()(std::int64_t row, std::int64_t column, std::int64_t count,
                             F32 v) const {
    if (e.residual.present()) v = v + residual_at(e.residual, row, column, count);
    if (e.codes) {
      std::uint8_t* p = e.codes + row * e.ld_out + column;
      const auto vector = [&](const float* x) {
        return count == kLanes ? load(x + column) : load_some(x + column, count);
      };
      if (e.code_shift) v = v - vector(e.code_shift);
      if (e.code_scale) v = v / vector(e.code_scale);
      const I32 codes = quantize(v, inv_scale, zero, low, high);
      count == kLanes ? store_u8(p, codes) : store_u8_some(p, codes, count);
    } else {
      float* p = e.f32 + row * e.ld_out + column;
      count == kLanes ? store(p, v) : store_some(p, v, count);
    }
  }
};

/// Sums to values: in the tile, or straight to `write` where nothing stands in between.
template <bool kRowwise, bool kAsymmetric>
QUELL_SIMD void dequantize_tile(Tile& tile, int rows, std::int64_t row0, std::int64_t column0,
                                const Epilogue& e, bool straight, const Writer& write) {
  if (straight)
    dequantize_tile<kRowwise, kAsymmetric>(
        tile, rows, row0, column0, e,
        [&](int r, int h, const F32& v) { write(row0 + r, column0 + h * kLanes, kLanes, v); });
  else
    dequantize_tile<kRowwise, kAsymmetric>(tile, rows, row0, column0, e,
                                           [&](int r, int h, const F32& v) { tile.set(r, h, v); });
}

/// Squared differences to the target instead of outputs: those of both halves added in f32, then by
/// lane in double.
template <bool kRowwise, bool kAsymmetric>
QUELL_SIMD void compare_tile(Tile& tile, int rows, std::int64_t row0, std::int64_t panel,
                             const Epilogue& e) {
  const float* target = e.target + (panel * e.target_rows + row0) * kPanel;
  double* sums = e.squared_error + row0 * kLanes;
  dequantize_tile<kRowwise, kAsymmetric>(
      tile, rows, row0, panel * kPanel, e, [=, &tile](int r, int h, const F32& v) {
        const float* wanted = target + r * kPanel + h * kLanes;
        __builtin_prefetch(wanted + rows * kPanel);  // of the next block of rows
        const F32 d = v - load(wanted), square = d * d;
        h == 0 ? tile.set(r, 0, square)
               : add_in_double(sums + r * kLanes, tile.value(r, 0) + square);
      });
}

/// The tile holds f32 sums over groups.
QUELL_SIMD void dequantize_grouped_tile(Tile& tile, int rows, std::int64_t row0,
                                        std::int64_t column0, const Epilogue& e) {
  for (int h = 0; h < 2; ++h) {
    const std::int64_t column = column0 + h * kLanes;
    const F32 scale = load(e.scale + column), bias = load(e.bias + column);
    const F32 offset = e.group_offset ? load(e.group_offset + column) : splat(0.0F);
    for (int r = 0; r < rows; ++r) {
      const F32 sum = tile.value(r, h);
      tile.set(r, h,
               e.row_scale ? (e.row_scale[row0 + r] * scale) *
                                     (sum + static_cast<float>(e.row_zero[row0 + r]) * offset) +
                                 bias
                           : scale * (sum + offset) + bias);
    }
  }
}

/// `n`: columns of the whole product; `grouped`: the tile holds f32 sums over groups.
QUELL_SIMD void finish_tile(Tile& tile, int rows, std::int64_t row0, std::int64_t panel,
                            std::int64_t n, bool grouped, const Epilogue& e) {
  const std::int64_t column0 = panel * kPanel, out0 = e.gated ? column0 / 2 : column0,
                     out_n = e.gated ? n / 2 : n;
  if (e.target) {
    if (e.row_scale)
      e.weight_zero ? compare_tile<true, true>(tile, rows, row0, panel, e)
                    : compare_tile<true, false>(tile, rows, row0, panel, e);
    else
      e.weight_zero ? compare_tile<false, true>(tile, rows, row0, panel, e)
                    : compare_tile<false, false>(tile, rows, row0, panel, e);
    return;
  }
  const Writer write(e);
  const bool straight =
      !grouped && !e.gated && e.activation == Activation::kNone && out0 + kPanel <= out_n;
  if (grouped)
    dequantize_grouped_tile(tile, rows, row0, column0, e);
  else if (e.row_scale)
    e.weight_zero ? dequantize_tile<true, true>(tile, rows, row0, column0, e, straight, write)
                  : dequantize_tile<true, false>(tile, rows, row0, column0, e, straight, write);
  else
    e.weight_zero ? dequantize_tile<false, true>(tile, rows, row0, column0, e, straight, write)
                  : dequantize_tile<false, false>(tile, rows, row0, column0, e, straight, write);
  if (straight) return;
  activate_tile(tile, rows, e);
  for (int h = 0; h < (e.gated ? 1 : 2); ++h) {
    const std::int64_t left = out_n - (out0 + h * kLanes), count = left < kLanes ? left : kLanes;
    for (int r = 0; r < rows && count > 0; ++r)
      write(row0 + r, out0 + h * kLanes, count, tile.value(r, h));
  }
}

/// Adds the sums of one group, times its steps, to the f32 values of `total`.
QUELL_SIMD void add_group(Tile& part, Tile& total, int rows, std::int64_t row0, std::int64_t panel,
                          std::int64_t group, const PackedWeights& w, const Epilogue& e) {
  const auto at = static_cast<std::size_t>(w.group_at(panel, group));
  for (int h = 0; h < 2; ++h) {
    const F32 scale = load(w.group_scale.data() + at + h * kLanes);
    const bool zeros = !w.group_zero.empty();
    const I32 zero = zeros ? load(w.group_zero.data() + at + h * kLanes) : splat(0);
    const I32 group_sum = e.row_group_scale ? load(w.group_sum.data() + at + h * kLanes) : splat(0);
    for (int r = 0; r < rows; ++r) {
      const std::int64_t row_group = (row0 + r) * w.groups() + group;
      I32 sum = load(part.at(r, h));
      if (zeros) sum = sum - e.row_group_sum[row_group] * zero;
      if (e.row_group_scale) sum = sum - e.row_group_zero[row_group] * group_sum;
      const F32 v =
          (e.row_group_scale ? e.row_group_scale[row_group] * scale : scale) * to_f32(sum);
      total.set(r, h, group == 0 ? v : total.value(r, h) + v);
    }
  }
}

/// Walks panels, row blocks and groups of k; `sums(row, panel, k_begin, k_count, rows, tile)` fills
/// a tile of up to kRows rows, with `panel` pointing at k_begin. Panels: how they are read
/// (panels.h).
template <int kRows, typename Panels = PackedPanels, typename Sums>
QUELL_SIMD void for_each_tile(const PackedWeights& w, const Epilogue& epilogue,
                              std::int64_t m_begin, std::int64_t m_end, std::int64_t panel_begin,
                              std::int64_t panel_end, Sums sums) {
  const Panels panels(w);
  Tile tile, part;
  const bool grouped = w.group_size > 0;
  const std::int64_t slices = grouped ? w.groups() : 1, depth = grouped ? w.group_size : w.depth();
  const std::int64_t share =
      round_up(w.panel_bytes() / ((m_end - m_begin + kRows - 1) / kRows) + 1, kCacheLine);
  for (std::int64_t p = panel_begin; p < panel_end; ++p) {
    const std::int8_t* panel = panels(p);
    for (std::int64_t i = m_begin; i < m_end; i += kRows) {
      const int rows = static_cast<int>(m_end - i < kRows ? m_end - i : kRows);
      // Every block of rows brings its share of the next panel closer; where there is one block,
      // the panels just stream by.
      if (share < w.panel_bytes() && p + 1 < panel_end) {
        const std::int64_t from = (i - m_begin) / kRows * share;
        for (std::int64_t b = from; b < from + share && b < w.panel_bytes(); b += kCacheLine)
          __builtin_prefetch(w.panel(p + 1) + b, 0, 2);
      }
      for (std::int64_t g = 0; g < slices; ++g) {
        sums(i, panel + panels.bytes_of(g * depth), g * depth, depth, rows, grouped ? part : tile);
        if (grouped) add_group(part, tile, rows, i, p, g, w, epilogue);
      }
      finish_tile(tile, rows, i, p, w.n, grouped, epilogue);
    }
  }
}

}  // namespace
}  // namespace quell::kernels
