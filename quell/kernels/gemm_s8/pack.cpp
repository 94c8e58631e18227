#include <algorithm>
#include <cstdlib>

#include "quell/kernels/gemm_s8/gemm_s8.h"

namespace quell::kernels {
namespace {

/// Byte of column `c`, index `k` in a panel of whole codes.
std::int64_t offset_in_panel(WeightLayout layout, std::int64_t c, std::int64_t k) {
  const std::int64_t unit = layout == WeightLayout::kPairs ? 2 : 4;
  return (k / unit * kPanel + c) * unit + k % unit;
}

}  // namespace

PackedWeights pack_weights(const std::int8_t* w, std::int64_t n, std::int64_t k, WeightLayout layout) {
  PackedWeights p;
  p.n = n;
  p.k = k;
  p.layout = layout;
  p.data = AlignedBuffer(static_cast<std::size_t>(p.padded_n() / kPanel * p.panel_bytes()));
  p.row_sum.assign(static_cast<std::size_t>(p.padded_n()), 0);
  auto* bytes = reinterpret_cast<std::int8_t*>(p.data.data());
  for (std::int64_t row = 0; row < n; ++row)
    for (std::int64_t col = 0; col < k; ++col) {
      const std::int8_t code = w[row * k + col];
      std::int8_t* panel = bytes + row / kPanel * p.panel_bytes();
      if (layout == WeightLayout::kNibbles) {
        std::int8_t& byte = panel[(col / 8 * kPanel + row % kPanel) * 4 + col % 4];
        byte = static_cast<std::int8_t>(byte | ((code & 15) << (col % 8 < 4 ? 0 : 4)));
      } else {
        panel[offset_in_panel(layout, row % kPanel, col)] = code;
      }
      p.max_abs = std::max(p.max_abs, std::abs(static_cast<int>(code)));
      p.row_sum[static_cast<std::size_t>(row)] += code;
    }
  return p;
}

namespace {

/// One group of `kUnit` consecutive k of up to 32 columns. `step_c` and `step_k`: bytes between columns and between k.
template <int kUnit>
void pack_group(const std::uint8_t* from, std::int64_t step_c, std::int64_t step_k, std::int64_t width, std::int64_t depth,
                int shift, std::int8_t* group, std::int32_t* sums) {
  if (depth < kUnit || width < kPanel) std::fill_n(group, kPanel * kUnit, std::int8_t{0});
  const auto code = [&](std::int64_t c, std::int64_t d) { return static_cast<std::int8_t>(from[c * step_c + d * step_k] - shift); };
  if (depth == kUnit && width == kPanel) {  // the common case, with constant bounds
    for (std::int64_t c = 0; c < kPanel; ++c)
      for (std::int64_t d = 0; d < kUnit; ++d) group[c * kUnit + d] = code(c, d);
  } else {
    for (std::int64_t c = 0; c < width; ++c)
      for (std::int64_t d = 0; d < depth; ++d) group[c * kUnit + d] = code(c, d);
  }
  for (std::int64_t c = 0; c < kPanel; ++c)
    for (std::int64_t d = 0; d < kUnit; ++d) sums[c] += group[c * kUnit + d];
}

}  // namespace

void prepare_packing(std::int64_t n, std::int64_t k, WeightLayout layout, PackedWeights& out) {
  out.n = n;
  out.k = k;
  out.layout = layout;
  out.max_abs = 128;
  const std::int64_t panels = out.padded_n() / kPanel;
  if (const auto bytes = static_cast<std::size_t>(panels * out.panel_bytes()); out.data.size() < bytes)
    out.data = AlignedBuffer(bytes, Fill::kNone);
  out.row_sum.assign(static_cast<std::size_t>(out.padded_n()), 0);
}

void pack_activations(const std::uint8_t* w, std::int64_t ldw, std::int64_t n, std::int64_t k, bool transposed, int shift,
                      WeightLayout layout, PackedWeights& out) {
  prepare_packing(n, k, layout, out);
  pack_panels(w, ldw, transposed, shift, out, 0, out.padded_n() / kPanel);
}

void pack_panels(const std::uint8_t* w, std::int64_t ldw, bool transposed, int shift, PackedWeights& out, std::int64_t begin,
                 std::int64_t end) {
  const std::int64_t n = out.n, k = out.k, unit = out.layout == WeightLayout::kPairs ? 2 : 4, step_c = transposed ? 1 : ldw,
                     step_k = transposed ? ldw : 1;
  for (std::int64_t p = begin; p < end; ++p) {
    std::int8_t* panel = reinterpret_cast<std::int8_t*>(out.data.data()) + p * out.panel_bytes();
    const std::uint8_t* from = w + p * kPanel * step_c;
    const std::int64_t width = std::min(kPanel, n - p * kPanel);
    for (std::int64_t k0 = 0; k0 < out.padded_k(); k0 += unit) {
      const std::int64_t depth = std::clamp<std::int64_t>(k - k0, 0, unit);
      std::int32_t* sums = out.row_sum.data() + p * kPanel;
      unit == 2 ? pack_group<2>(from + k0 * step_k, step_c, step_k, width, depth, shift, panel + k0 * kPanel, sums)
                : pack_group<4>(from + k0 * step_k, step_c, step_k, width, depth, shift, panel + k0 * kPanel, sums);
    }
  }
}

}  // namespace quell::kernels
