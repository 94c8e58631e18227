// Linears whose weights are kept in bf16: half the memory of f32, and so twice the speed where
// memory is the limit. With AMX the activations are rounded too and products are bf16 with f32
// sums. Elsewhere arithmetic is f32: few rows are multiplied right from the packed weights, many
// from panels unpacked for oneDNN.
#pragma once

#include <cstdint>

#include "quell/base/aligned_buffer.h"
#include "quell/base/cpu_features.h"

namespace quell::kernels {

inline constexpr std::int64_t kBf16Panel = 32;  ///< output columns in a packed panel
inline constexpr std::int64_t kBf16Depth = 32;  ///< k is padded to the step of an AMX tile

/// w[N,K] as panels [K / 2][32][2] of bf16, what lies past N and K zero.
struct Bf16Weights {
  std::int64_t n = 0, k = 0;
  AlignedBuffer data;

  std::int64_t panels() const { return (n + kBf16Panel - 1) / kBf16Panel; }
  std::int64_t padded_k() const { return (k + kBf16Depth - 1) / kBf16Depth * kBf16Depth; }
  const std::uint16_t* panel(std::int64_t index) const {
    return reinterpret_cast<const std::uint16_t*>(data.data()) + index * padded_k() * kBf16Panel;
  }
};

/// w: [N,K] row-major, rounded to bf16.
Bf16Weights pack_bf16(const float* w, std::int64_t n, std::int64_t k);

struct Bf16Kernels {
  /// y[M,N] = x[M,K] w^T + bias for the panels [panel_begin, panel_end); sums run in the order of
  /// k, so that all ISAs give the same bytes. `bias` may be null.
  void (*multiply)(const float* x, std::int64_t ldx, std::int64_t m, const Bf16Weights& w,
                   const float* bias, float* y, std::int64_t ldy, std::int64_t panel_begin,
                   std::int64_t panel_end);
  /// The same from x in bf16, [M][padded_k] with zeros behind K; null where the ISA has no product
  /// of bf16.
  void (*multiply_rounded)(const std::uint16_t* x, std::int64_t m, const Bf16Weights& w,
                           const float* bias, float* y, std::int64_t ldy, std::int64_t panel_begin,
                           std::int64_t panel_end);
  /// f32 [K][32 * panels] of the panels [panel_begin, panel_end).
  void (*unpack)(const Bf16Weights& w, std::int64_t panel_begin, std::int64_t panel_end,
                 float* out);
};

/// The fastest on `isa`.
const Bf16Kernels& bf16_kernels(Isa isa);

extern const Bf16Kernels kBf16Reference, kBf16Avx2, kBf16Avx512, kBf16Amx;

}  // namespace quell::kernels
