// Operations on one row of f32: norms, softmax, activations, quantization, each with the codes of
// the next operator written in the same pass. One text (body.h) compiled once an ISA; sums run over
// sixteen lanes in a fixed order, so that all ISAs give the same bytes.
#pragma once

#include <cstdint>

#include "quell/base/cpu_features.h"
#include "quell/kernels/simd/epilogue_types.h"

namespace quell::kernels {

/// Where a row goes: f32, codes, or both. Either may be null.
struct RowOutput {
  float* f32 = nullptr;
  std::uint8_t* codes = nullptr;
  CodeArgs args;
};

struct RowRange {
  float min = 0.0F, max = 0.0F;
};

/// What a column's factor does to its values; with kNone there are no factors, and the pointer may
/// be null.
enum class Factor { kNone, kMultiply, kDivide };

struct RowKernels {
  /// Layer norm (`centered`) or RMS norm: (x - mean) * inv * weight + bias; statistics in double.
  /// weight and bias may be null.
  void (*normalize)(bool centered, const float* x, const float* weight, const float* bias,
                    double eps, std::int64_t n, const RowOutput& out);
  /// Softmax over the keys [begin, end) whose mask is not 0 (null: all); all others of the n become
  /// 0. Where there is none, 1/n everywhere. `scores` is overwritten; out.f32 may be it. Codes
  /// alone are rne(e * (inv_scale / sum)), without a division. Returns the sum of the codes, if
  /// any.
  std::int32_t (*softmax)(float* scores, std::int64_t begin, std::int64_t end, std::int64_t n,
                          const std::int32_t* mask, const RowOutput& out);
  void (*activate)(Activation kind, const float* x, float* y, std::int64_t n);
  /// Returns the sum of the codes.
  std::int32_t (*quantize)(const float* x, std::int64_t n, const CodeArgs& args,
                           std::uint8_t* codes);
  /// Pixels of up to four planes, side by side: [n][4], 0 behind the last plane.
  void (*quantize_pixels)(const float* const* planes, std::int64_t count, std::int64_t n,
                          const CodeArgs& args, std::uint8_t* codes);
  /// Smallest and largest element of n > 0.
  RowRange (*range)(const float* x, std::int64_t n);
  // Candidates of searches: x * factor or x / factor by column, in f32 as written.
  RowRange (*scaled_range)(const float* x, const float* factor, Factor kind, std::int64_t n);
  /// clamp(rne(scaled / step) + zero, low, high), with a division; args.inv_scale is not used.
  /// Returns the sum of the codes.
  std::int32_t (*quantize_scaled)(const float* x, const float* factor, Factor kind, std::int64_t n,
                                  float step, const CodeArgs& args, std::uint8_t* codes);
  /// Sum of (a - b)^2 in double.
  double (*squared_difference)(const float* a, const float* b, std::int64_t n);
};

/// The fastest on `isa`.
const RowKernels& row_kernels(Isa isa);

extern const RowKernels kRowsReference, kRowsAvx2, kRowsAvx512;

}  // namespace quell::kernels
