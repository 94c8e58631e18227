// Integer linears: exact int32 products of u8 activation codes and s8 weight codes, and what
// follows them in one pass: steps, bias, activation, residual, and the next operator's codes. One
// source file per ISA; all give the same bytes as reference.cpp. README.md here describes the
// packed layouts.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "quell/base/aligned_buffer.h"
#include "quell/base/cpu_features.h"
#include "quell/kernels/simd/epilogue_types.h"

namespace quell::kernels {

inline constexpr std::int64_t kPanel = 32;       ///< output columns (rows of w) in a packed panel
inline constexpr std::int64_t kErrorLanes = 16;  ///< of Epilogue::squared_error
inline constexpr std::int64_t kPackedK = 64;     ///< K is padded to a multiple of this

constexpr std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }
/// Bytes from one row of codes to the next: K padded, and never a multiple of 1024, where rows
/// would fall into few cache sets.
constexpr std::int64_t code_stride(std::int64_t k) {
  const std::int64_t padded = round_up(k, kPackedK);
  return padded % 1024 == 0 ? padded + kPackedK : padded;
}

/// How a panel of 32 output columns lies in memory.
enum class WeightLayout {
  kQuads,    ///< [K/4][32][4] s8: the unit of a 4-way dot product, of vpmaddubsw and of an AMX tile
             ///< row
  kPairs,    ///< [K/2][32][2] s8: for vpmaddwd on widened codes
  kNibbles,  ///< [K/8][32][4]: two quads of 4-bit codes in a byte, the first in the low nibble
  kCrumbs    ///< [K/16][32][4]: four quads of 2-bit codes in a byte, the first in the lowest bits
};
std::string_view layout_name(WeightLayout layout);

/// Bits that a code takes.
constexpr int bits_of(WeightLayout layout) {
  switch (layout) {
    case WeightLayout::kCrumbs: return 2;
    case WeightLayout::kNibbles: return 4;
    default: return 8;
  }
}
/// The fewest of 2, 4 and 8 bits that hold all codes.
int packed_bits_of(std::span<const std::int8_t> codes);

struct PackedWeights {
  std::int64_t n = 0, k = 0;
  WeightLayout layout = WeightLayout::kQuads;
  AlignedBuffer data;
  std::int64_t used_k = 0;  ///< where x is 0 from there on: a multiple of kPackedK, 0 for all
  int max_abs = 0;          ///< bound of the codes actually present, part of the kernel choice
  std::vector<std::int32_t> row_sum;  ///< [padded_n], over k
  /// Weights in groups along k (0: none): steps, and zero points where not all are 0,
  /// [panels][groups][32].
  std::int64_t group_size = 0;
  std::vector<float> group_scale;
  std::vector<std::int32_t> group_zero;
  std::vector<std::int32_t> group_sum;  ///< of (code - zero), where activations have groups too

  std::int64_t padded_k() const { return round_up(k, kPackedK); }
  std::int64_t padded_n() const { return round_up(n, kPanel); }
  std::int64_t depth() const { return used_k > 0 ? used_k : padded_k(); }
  std::int64_t groups() const { return group_size > 0 ? k / group_size : 0; }
  /// Bytes of `depth` k in a panel.
  std::int64_t bytes_of(std::int64_t depth) const { return depth * kPanel * bits_of(layout) / 8; }
  std::int64_t panel_bytes() const { return bytes_of(padded_k()); }
  /// Where the parameters of a panel's group lie.
  std::int64_t group_at(std::int64_t panel, std::int64_t group) const {
    return (panel * groups() + group) * kPanel;
  }
  const std::int8_t* panel(std::int64_t index) const {
    return reinterpret_cast<const std::int8_t*>(data.data()) + index * panel_bytes();
  }
};

/// w: [N,K] row-major codes; kNibbles takes -8..7, kCrumbs -2..1.
PackedWeights pack_weights(const std::int8_t* w, std::int64_t n, std::int64_t k,
                           WeightLayout layout);
/// Packs again into the same memory, for operands that change with every call (keys, values). `w`
/// is N rows, `ldw` bytes apart; u8 codes become s8 by subtracting `shift`. kQuads or kPairs.
/// `transposed`: w is [K,N] instead.
void pack_activations(const std::uint8_t* w, std::int64_t ldw, std::int64_t n, std::int64_t k,
                      bool transposed, int shift, WeightLayout layout, PackedWeights& out);
/// The same in steps, so that threads can share the panels: sizes and memory with sums of 0, panels
/// [begin, end) from all of `w`, and their sums, where the caller does not know them.
void prepare_packing(std::int64_t n, std::int64_t k, WeightLayout layout, PackedWeights& out);
void pack_panels(const std::uint8_t* w, std::int64_t ldw, bool transposed, int shift,
                 PackedWeights& out, std::int64_t begin, std::int64_t end);
void sum_panels(PackedWeights& w, std::int64_t begin, std::int64_t end);

/// A residual operand: f32 rows, or codes read as ((code - zero) * scale) [* column_scale +
/// column_shift]. The affine also applies to f32 rows. Absent when both pointers are null.
struct ResidualArgs {
  const float* f32 = nullptr;
  const std::uint8_t* codes = nullptr;
  std::int64_t ld = 0;  ///< elements from row to row
  float zero = 0.0F, scale = 1.0F;
  const float *column_scale = nullptr, *column_shift = nullptr;  ///< may be null

  bool present() const { return f32 != nullptr || codes != nullptr; }
};

/// y = act(scale[j] * row_scale[i] * (acc + offset) + bias[j]) + residual, written as f32 or as
/// codes. With exact int32 offsets
///   offset = column_offset[j]                                   static input
///          + row_zero[i] * column_zero_factor[j]                dynamic input: -z_x[i] * row sums
///          of w
///          + row_term[i] * weight_zero[j]                       asymmetric weights: (K z_x[i] -
///          sum of x[i,:]) * z_w[j]
/// With weights in groups, acc + offset is instead, in f32 and in the order of the groups,
///   sum over g of group_scale[g,j] * (acc_g - group_zero[g,j] * row_group_sum[i,g])
///          + group_offset[j] [* row_zero[i] where dynamic]
/// and with activations in the same groups
///   sum over g of row_group_scale[i,g] * group_scale[g,j] * (acc_g - group_zero[g,j] *
///   row_group_sum[i,g]
///                                                             - row_group_zero[i,g] *
///                                                             group_sum[g,j])
/// Vectors over columns have padded_n elements. Absent parts are null.
struct Epilogue {
  const std::int32_t* column_offset = nullptr;
  const float* scale = nullptr;
  const float* bias = nullptr;
  const float* row_scale = nullptr;
  const std::int32_t *row_zero = nullptr, *column_zero_factor = nullptr;
  const std::int32_t *row_term = nullptr, *weight_zero = nullptr;
  const float* group_offset = nullptr;
  const std::int32_t* row_group_sum = nullptr;  ///< [rows, groups], needed with group_zero
  const float* row_group_scale = nullptr;       ///< [rows, groups], activations in groups
  const std::int32_t* row_group_zero = nullptr;
  Activation activation = Activation::kNone;
  /// Gated: panels hold 16 gate columns and 16 up columns; 16 outputs a panel, act(gate) * up.
  bool gated = false;
  ResidualArgs residual;
  float* f32 = nullptr;           ///< output rows, ld_out elements apart
  std::uint8_t* codes = nullptr;  ///< output codes, ld_out bytes apart
  std::int64_t ld_out = 0;
  CodeArgs code_args;
  /// Codes are those of (y - code_shift[j]) / code_scale[j]; by output column, unpadded. Null: of
  /// y.
  const float *code_scale = nullptr, *code_shift = nullptr;
  /// With a target, [panels][target_rows][32], nothing is written; instead the squares (y -
  /// target)^2 of the panels of this call are added to squared_error[rows][kErrorLanes]: the
  /// difference and its square in f32, columns j and j + 16 of a panel to lane j. Columns past N
  /// count too: scale, bias and target are 0 there. For weights not in groups, without activation,
  /// gate and residual.
  const float* target = nullptr;
  std::int64_t target_rows = 0;
  double* squared_error = nullptr;
};

/// Rows of x lie `ldx` bytes apart, ldx >= padded_k; bytes past K may hold anything (the weights
/// there are 0). Rows [m_begin, m_end) and panels [panel_begin, panel_end) are computed; the
/// epilogue's row pointers start at row 0.
using GemmS8 = void (*)(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w,
                        const Epilogue& epilogue, std::int64_t m_begin, std::int64_t m_end,
                        std::int64_t panel_begin, std::int64_t panel_end);

struct GemmS8Kernel {
  std::string_view name;
  Isa isa;
  WeightLayout layout;
  /// Largest product bound max(x) * max|w| the kernel is exact for.
  int max_product;
  std::int64_t group_unit;  ///< groups of weights must be multiples of this
  std::int64_t row_unit;  ///< rows that are computed together; a block of rows should be a multiple
  GemmS8 run;
};

/// All kernels compiled in, fastest last within an ISA.
std::span<const GemmS8Kernel> gemm_s8_kernels();

/// The fastest kernel on `isa` or a weaker one that is exact for codes up to `max_x` and
/// `max_abs_w` and takes groups of that size. Weights that fit in 2 or 4 `weight_bits` stay packed
/// in so many, or in the next more that the instructions have a kernel for, where memory and not
/// arithmetic is the limit.
const GemmS8Kernel& choose_gemm_s8(Isa isa, int max_x, int max_abs_w, int weight_bits = 8,
                                   std::int64_t group_size = 0);

}  // namespace quell::kernels
