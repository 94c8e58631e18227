#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "quell/kernels/gemm_s8/panels.h"

namespace quell::kernels {
namespace {

/// Byte of column `c`, index `k` in a panel of whole codes.
std::int64_t offset_in_panel(WeightLayout layout, std::int64_t c, std::int64_t k) {
  const std::int64_t unit = layout == WeightLayout::kPairs ? 2 : 4;
  return (k / unit * kPanel + c) * unit + k % unit;
}

/// Puts a code of kBits among those that share a byte: quads of consecutive k, the first lowest.
template <int kBits>
void put_bits(std::int8_t* panel, std::int64_t c, std::int64_t k, std::int8_t code) {
  constexpr std::int64_t kSpan = 4 * 8 / kBits;
  std::int8_t& byte = panel[(k / kSpan * kPanel + c) * 4 + k % 4];
  const int bits = code & ((1 << kBits) - 1);
  byte = static_cast<std::int8_t>(byte | bits << (k % kSpan / 4 * kBits));
}

}  // namespace

int packed_bits_of(std::span<const std::int8_t> codes) {
  const auto [low, high] = std::minmax_element(codes.begin(), codes.end());
  for (const int bits : {2, 4}) {
    const int bound = 1 << (bits - 1);
    if (codes.empty() || (*low >= -bound && *high < bound)) return bits;
  }
  return 8;
}

PackedWeights pack_weights(const std::int8_t* w, std::int64_t n, std::int64_t k,
                           WeightLayout layout) {
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
      switch (layout) {
        case WeightLayout::kCrumbs: put_bits<2>(panel, row % kPanel, col, code); break;
        case WeightLayout::kNibbles: put_bits<4>(panel, row % kPanel, col, code); break;
        default: panel[offset_in_panel(layout, row % kPanel, col)] = code;
      }
      p.max_abs = std::max(p.max_abs, std::abs(static_cast<int>(code)));
      p.row_sum[static_cast<std::size_t>(row)] += code;
    }
  return p;
}

namespace {

/// Codes less `shift`, all bytes of a word at once: no borrow leaves a byte.
template <typename Word>
Word subtract_bytes(Word codes, int shift) {
  constexpr Word kOnes = std::numeric_limits<Word>::max() / 255,
                 kTops = static_cast<Word>(kOnes * 128);
  const auto each = static_cast<Word>(kOnes * static_cast<Word>(shift & 255));
  return static_cast<Word>(((codes | kTops) - (each & ~kTops)) ^ ((codes ^ ~each) & kTops));
}

/// One group of consecutive k (2 or 4, the bytes of a Word) of up to 32 columns, `step` bytes
/// apart.
template <typename Word>
void pack_group(const std::uint8_t* from, std::int64_t step, std::int64_t width, std::int64_t depth,
                int shift, std::int8_t* group) {
  constexpr std::int64_t kUnit = sizeof(Word);
  if (depth < kUnit || width < kPanel) std::fill_n(group, kPanel * kUnit, std::int8_t{0});
  if (depth <= 0) return;
  const auto column = [&](std::int64_t c) {
    Word word;
    std::memcpy(&word, from + c * step, sizeof(word));
    word = subtract_bytes(word, shift);
    std::memcpy(group + c * kUnit, &word, sizeof(word));
  };
  if (depth == kUnit && width == kPanel) {  // the common case, with constant bounds
    for (std::int64_t c = 0; c < kPanel; ++c) column(c);
  } else if (depth == kUnit) {
    for (std::int64_t c = 0; c < width; ++c) column(c);
  } else {
    for (std::int64_t c = 0; c < width; ++c)
      for (std::int64_t d = 0; d < depth; ++d)
        group[c * kUnit + d] = static_cast<std::int8_t>(from[c * step + d] - shift);
  }
}

/// The same with columns side by side and `step` bytes between k.
template <int kUnit>
void pack_transposed(const std::uint8_t* from, std::int64_t step, std::int64_t width,
                     std::int64_t depth, int shift, std::int8_t* group) {
  if (depth < kUnit || width < kPanel) std::fill_n(group, kPanel * kUnit, std::int8_t{0});
  const auto code = [&](std::int64_t c, std::int64_t d) {
    return static_cast<std::int8_t>(from[c + d * step] - shift);
  };
  if (depth == kUnit && width == kPanel) {
    for (std::int64_t c = 0; c < kPanel; ++c)
      for (std::int64_t d = 0; d < kUnit; ++d) group[c * kUnit + d] = code(c, d);
  } else {
    for (std::int64_t c = 0; c < width; ++c)
      for (std::int64_t d = 0; d < depth; ++d) group[c * kUnit + d] = code(c, d);
  }
}

}  // namespace

std::int8_t* panel_memory(std::size_t bytes) {
  thread_local AlignedBuffer memory;
  if (memory.size() < bytes) memory = AlignedBuffer(bytes, Fill::kNone);
  return reinterpret_cast<std::int8_t*>(memory.data());
}

void prepare_packing(std::int64_t n, std::int64_t k, WeightLayout layout, PackedWeights& out) {
  out.n = n;
  out.k = k;
  out.layout = layout;
  out.max_abs = 128;
  const std::int64_t panels = out.padded_n() / kPanel;
  if (const auto bytes = static_cast<std::size_t>(panels * out.panel_bytes());
      out.data.size() < bytes)
    out.data = AlignedBuffer(bytes, Fill::kNone);
  out.row_sum.assign(static_cast<std::size_t>(out.padded_n()), 0);
}

void pack_activations(const std::uint8_t* w, std::int64_t ldw, std::int64_t n, std::int64_t k,
                      bool transposed, int shift, WeightLayout layout, PackedWeights& out) {
  prepare_packing(n, k, layout, out);
  const std::int64_t panels = out.padded_n() / kPanel;
  pack_panels(w, ldw, transposed, shift, out, 0, panels);
  sum_panels(out, 0, panels);
}

void pack_panels(const std::uint8_t* w, std::int64_t ldw, bool transposed, int shift,
                 PackedWeights& out, std::int64_t begin, std::int64_t end) {
  const std::int64_t unit = out.layout == WeightLayout::kPairs ? 2 : 4;
  for (std::int64_t p = begin; p < end; ++p) {
    std::int8_t* panel = reinterpret_cast<std::int8_t*>(out.data.data()) + p * out.panel_bytes();
    const std::uint8_t* from = w + p * kPanel * (transposed ? 1 : ldw);
    const std::int64_t width = std::min(kPanel, out.n - p * kPanel);
    for (std::int64_t k = 0; k < out.padded_k(); k += unit) {
      const std::int64_t depth = std::clamp<std::int64_t>(out.k - k, 0, unit);
      std::int8_t* group = panel + k * kPanel;
      if (transposed)
        (unit == 2 ? pack_transposed<2> : pack_transposed<4>)(from + k * ldw, ldw, width, depth,
                                                              shift, group);
      else
        (unit == 2 ? pack_group<std::uint16_t> : pack_group<std::uint32_t>)(from + k, ldw, width,
                                                                            depth, shift, group);
    }
  }
}

void sum_panels(PackedWeights& w, std::int64_t begin, std::int64_t end) {
  const std::int64_t unit = w.layout == WeightLayout::kPairs ? 2 : 4, groups = w.padded_k() / unit;
  for (std::int64_t p = begin; p < end; ++p)
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int8_t* group = w.panel(p) + g * kPanel * unit;
      std::int32_t* sums = w.row_sum.data() + p * kPanel;
      for (std::int64_t c = 0; c < kPanel; ++c)
        for (std::int64_t d = 0; d < unit; ++d) sums[c] += group[c * unit + d];
    }
}

}  // namespace quell::kernels
