// The VNNI kernel text over `V`: kWidth int32 lanes and a 4-way u8*s8 dot product. Instantiated
// with intrinsics in avx512_vnni.cpp and avx_vnni.cpp, and with plain C++ (emulated.h) in the test.
#pragma once

#include "quell/kernels/gemm_s8/epilogue.h"
#include "quell/kernels/gemm_s8/rows.h"

namespace quell::kernels {
namespace {

/// kRows rows by two vectors of columns; accumulators stay in registers over all of K. `bytes`:
/// from one quad of k to the next.
template <typename V, int kRows, int kBits>
[[gnu::always_inline]] inline void vnni_block(const std::uint8_t* x, std::int64_t ldx,
                                              const std::int8_t* w, std::int64_t steps,
                                              std::int32_t* out) {
  typename V::I32 sum[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = V::zero();
  const auto multiply = [&](typename V::I8 w0, typename V::I8 w1, const std::uint8_t* quads) {
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const typename V::I8 quad = V::broadcast(quads + r * ldx);
      sum[r][0] = V::dot(sum[r][0], quad, w0);
      sum[r][1] = V::dot(sum[r][1], quad, w1);
    }
  };
  if constexpr (kBits == 2) {
    for (std::int64_t s = 0; s < steps; s += 4, w += kPanel * 4) {
      const typename V::I8 b0 = V::load(w), b1 = V::load(w + V::kWidth * 4);
      const std::uint8_t* quads = x + 4 * s;
      multiply(V::template crumbs<0>(b0), V::template crumbs<0>(b1), quads);
      multiply(V::template crumbs<1>(b0), V::template crumbs<1>(b1), quads + 4);
      multiply(V::template crumbs<2>(b0), V::template crumbs<2>(b1), quads + 8);
      multiply(V::template crumbs<3>(b0), V::template crumbs<3>(b1), quads + 12);
    }
  } else if constexpr (kBits == 4) {
    for (std::int64_t s = 0; s < steps; s += 2, w += kPanel * 4) {
      const typename V::I8 b0 = V::load(w), b1 = V::load(w + V::kWidth * 4);
      multiply(V::low_nibbles(b0), V::low_nibbles(b1), x + 4 * s);
      multiply(V::high_nibbles(b0), V::high_nibbles(b1), x + 4 * s + 4);
    }
  } else {
    for (std::int64_t s = 0; s < steps; ++s, w += kPanel * 4)
      multiply(V::load(w), V::load(w + V::kWidth * 4), x + 4 * s);
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    V::store(out + r * kPanel, sum[r][0]);
    V::store(out + r * kPanel + V::kWidth, sum[r][1]);
  }
}

/// kBits: of codes in memory, as Panels show it.
template <typename V, int kBits, typename Panels = PackedPanels>
void vnni_gemm(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w,
               const Epilogue& epilogue, std::int64_t m_begin, std::int64_t m_end,
               std::int64_t panel_begin, std::int64_t panel_end) {
  for_each_tile<V::kRows, Panels>(w, epilogue, m_begin, m_end, panel_begin, panel_end,
                                  [&](std::int64_t row, const std::int8_t* panel, std::int64_t k,
                                      std::int64_t depth, int rows, Tile& tile) {
                                    for (int c = 0; c < kPanel; c += 2 * V::kWidth)
                                      with_rows<V::kRows>(rows, [&](auto count) {
                                        vnni_block<V, count.value, kBits>(x + row * ldx + k, ldx,
                                                                          panel + 4 * c, depth / 4,
                                                                          tile.sum + c);
                                      });
                                  });
}

/// Weights of 2 bits: one block of rows unpacks them in registers; many read unpacked panels.
template <typename V>
void vnni_crumbs_gemm(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w,
                      const Epilogue& epilogue, std::int64_t m_begin, std::int64_t m_end,
                      std::int64_t panel_begin, std::int64_t panel_end) {
  const bool one_block = m_end - m_begin <= V::kRows;
  (one_block ? vnni_gemm<V, 2> : vnni_gemm<V, 8, UnpackedPanels>)(x, ldx, w, epilogue, m_begin,
                                                                  m_end, panel_begin, panel_end);
}

}  // namespace
}  // namespace quell::kernels
