// What one core can do at best, for benchmarks: integer products with all operands in registers,
// and reading memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quell/kernels/gemm_s8/gemm_s8.h"

namespace quell::kernels {

/// Billions of multiply-accumulates a second of the instruction mix that a kernel of this kind
/// needs; 0 where there is no probe.
double peak_gmacs(Isa isa, WeightLayout layout, int max_product);
/// Reads `size` bytes (a multiple of 256); the result keeps the reads alive.
std::uint64_t read_all(const void* data, std::size_t size);

}  // namespace quell::kernels
