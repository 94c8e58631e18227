// Exact int32 products of unsigned activation codes and signed weight codes: acc[M,N] = x[M,K] * w[N,K]^T.
// One source file per ISA; all give the same integers as reference.cpp. See README.md here for the packed layout.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "quell/base/cpu_features.h"

namespace quell::kernels {

inline constexpr std::int64_t kPackN = 16;  ///< output rows in a panel
inline constexpr std::int64_t kPackK = 4;   ///< consecutive k of one row, the unit of a dot-product instruction

/// Packed weights: panels of 16 rows, each [ceil(K/4)][16][4] bytes, zero-padded.
struct PackedWeights {
  std::int64_t n = 0, k = 0;
  std::vector<std::int8_t> data;
  int max_abs = 0;  ///< bound of the codes actually present, part of the kernel choice

  std::int64_t padded_k() const { return (k + kPackK - 1) / kPackK * kPackK; }
  std::int64_t panel_bytes() const { return padded_k() * kPackN; }
};

/// w: [N,K] row-major.
PackedWeights pack_weights(const std::int8_t* w, std::int64_t n, std::int64_t k);

/// Rows of x lie `ldx` bytes apart, ldx >= padded_k, bytes past K zero. acc: [M,N] with leading dimension ldacc; columns
/// [n_begin, n_end) are written, n_begin a multiple of 16.
using GemmU8S8 = void (*)(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w, std::int32_t* acc, std::int64_t ldacc,
                          std::int64_t m, std::int64_t n_begin, std::int64_t n_end);

struct GemmU8S8Kernel {
  std::string_view name;
  Isa isa;
  /// Largest product bound max(x) * max|w| the kernel is exact for.
  int max_product;
  GemmU8S8 run;
};

/// All kernels compiled in, fastest last within an ISA.
std::span<const GemmU8S8Kernel> gemm_u8s8_kernels();

/// The fastest kernel on `isa` or a weaker one that is exact for codes up to `max_x` and `max_abs_w`.
const GemmU8S8Kernel& choose_gemm_u8s8(Isa isa, int max_x, int max_abs_w);

}  // namespace quell::kernels
