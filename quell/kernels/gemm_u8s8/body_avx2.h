// The AVX2 kernel texts over `V`: 16 int16 or 8 int32 lanes. Instantiated with intrinsics in avx2.cpp and with plain C++
// (emulated.h) in the test.
#pragma once

#include <cstring>
#include <type_traits>

#include "quell/kernels/gemm_u8s8/gemm_u8s8.h"

namespace quell::kernels {
namespace {

/// Exact for all codes: widens both sides to 16 bits. A lane pair of `sum[q]` holds (k0+k1, k2+k3) of one output row.
template <typename V, int kRows>
void widen_panel(const std::uint8_t* x, std::int64_t ldx, const std::int8_t* panel, std::int64_t steps, std::int32_t* acc,
                 std::int64_t ldacc, std::int64_t columns) {
  typename V::I32 sum[kRows][4];
  for (auto& row : sum)
    for (auto& s : row) s = V::zero();
  for (std::int64_t s = 0; s < steps; ++s) {
    typename V::I16 quads[kRows];
    for (int r = 0; r < kRows; ++r) quads[r] = V::broadcast_u8x4(x + r * ldx + s * kPackK);
    for (int q = 0; q < 4; ++q) {  // 4 output rows at a time
      const typename V::I16 w = V::widen_s8x16(panel + s * kPackN * kPackK + q * 16);
      for (int r = 0; r < kRows; ++r) sum[r][q] = V::add(sum[r][q], V::madd(quads[r], w));
    }
  }
  for (int r = 0; r < kRows; ++r) {
    std::int32_t pairs[32];
    for (int q = 0; q < 4; ++q) V::store(pairs + 8 * q, sum[r][q]);
    for (std::int64_t j = 0; j < columns; ++j) acc[r * ldacc + j] = pairs[2 * j] + pairs[2 * j + 1];
  }
}

/// Exact when 2 * max_x * max|w| <= 32767: two products are added in 16 bits.
template <typename V, int kRows>
void maddubs_panel(const std::uint8_t* x, std::int64_t ldx, const std::int8_t* panel, std::int64_t steps, std::int32_t* acc,
                   std::int64_t ldacc, std::int64_t columns) {
  typename V::I32 sum[kRows][2];
  for (auto& row : sum)
    for (auto& s : row) s = V::zero();
  for (std::int64_t s = 0; s < steps; ++s) {
    const typename V::I8 w0 = V::load(panel + s * kPackN * kPackK);
    const typename V::I8 w1 = V::load(panel + s * kPackN * kPackK + 32);
    for (int r = 0; r < kRows; ++r) {
      std::int32_t quad;
      std::memcpy(&quad, x + r * ldx + s * kPackK, sizeof(quad));
      const typename V::I8 xs = V::broadcast(quad);
      sum[r][0] = V::add(sum[r][0], V::add_pairs(V::maddubs(xs, w0)));
      sum[r][1] = V::add(sum[r][1], V::add_pairs(V::maddubs(xs, w1)));
    }
  }
  for (int r = 0; r < kRows; ++r) {
    std::int32_t full[16];
    V::store(full, sum[r][0]);
    V::store(full + 8, sum[r][1]);
    for (std::int64_t j = 0; j < columns; ++j) acc[r * ldacc + j] = full[j];
  }
}

template <typename V, bool kWiden>
void avx2_gemm(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w, std::int32_t* acc, std::int64_t ldacc,
               std::int64_t m, std::int64_t n_begin, std::int64_t n_end) {
  constexpr int kBlock = kWiden ? 2 : 4;  // accumulators must stay in 16 registers
  const std::int64_t steps = w.padded_k() / kPackK;
  for (std::int64_t j = n_begin; j < n_end; j += kPackN) {
    const std::int8_t* panel = w.data.data() + j / kPackN * w.panel_bytes();
    const std::int64_t columns = n_end - j < kPackN ? n_end - j : kPackN;
    std::int64_t i = 0;
    const auto run = [&]<int kRows>(std::integral_constant<int, kRows>) {
      if constexpr (kWiden)
        widen_panel<V, kRows>(x + i * ldx, ldx, panel, steps, acc + i * ldacc + j, ldacc, columns);
      else
        maddubs_panel<V, kRows>(x + i * ldx, ldx, panel, steps, acc + i * ldacc + j, ldacc, columns);
      i += kRows;
    };
    while (i + kBlock <= m) run(std::integral_constant<int, kBlock>{});
    while (i < m) run(std::integral_constant<int, 1>{});
  }
}

}  // namespace
}  // namespace quell::kernels
