// The AVX2 kernel texts over `V`: 16 int16 or 8 int32 lanes. Instantiated with intrinsics in avx2.cpp and with plain C++
// (emulated.h) in the test. A panel's 32 columns are done in two halves, so that the accumulators fit sixteen registers.
#pragma once

#include <vector>

#include "quell/kernels/gemm_s8/epilogue.h"
#include "quell/kernels/gemm_s8/rows.h"

namespace quell::kernels {
namespace {

inline constexpr int kHalf = 16;

template <typename V, int kRows>
[[gnu::always_inline]] inline void store_sums(const typename V::I32 (&sum)[kRows][2], std::int32_t* out) {
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    V::store(out + r * kPanel, sum[r][0]);
    V::store(out + r * kPanel + 8, sum[r][1]);
  }
}

/// Exact for all codes: 16-bit products. x: rows of widened codes.
template <typename V, int kRows>
[[gnu::always_inline]] inline void widen_block(const std::int16_t* x, std::int64_t ldx, const std::int8_t* w, std::int64_t pairs,
                                               std::int32_t* out) {
  typename V::I32 sum[kRows][2];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = V::zero();
#pragma GCC unroll 2
  for (std::int64_t s = 0; s < pairs; ++s, w += kPanel * 2) {
    const typename V::I16 w0 = V::widen_s8x16(w), w1 = V::widen_s8x16(w + 16);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const typename V::I16 pair = V::broadcast_pair(x + r * ldx + 2 * s);
      sum[r][0] = V::add(sum[r][0], V::madd(pair, w0));
      sum[r][1] = V::add(sum[r][1], V::madd(pair, w1));
    }
  }
  store_sums<V>(sum, out);
}

template <typename V>
void widen_gemm(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w, const Epilogue& epilogue, std::int64_t m_begin,
                std::int64_t m_end, std::int64_t panel_begin, std::int64_t panel_end) {
  constexpr int kRows = 6;
  const std::int64_t k = w.depth(), ldw = k + 32;
  // Widened once for all panels of the call.
  thread_local std::vector<std::int16_t> wide;
  if (wide.size() < static_cast<std::size_t>((m_end - m_begin) * ldw))
    wide.resize(static_cast<std::size_t>((m_end - m_begin) * ldw));
  for (std::int64_t i = m_begin; i < m_end; ++i)
    for (std::int64_t c = 0; c < k; ++c) wide[static_cast<std::size_t>((i - m_begin) * ldw + c)] = x[i * ldx + c];
  for_each_tile<kRows>(
      w, epilogue, m_begin, m_end, panel_begin, panel_end,
      [&](std::int64_t row, const std::int8_t* panel, std::int64_t k_begin, std::int64_t depth, int rows, Tile& tile) {
        for (int c = 0; c < kPanel; c += kHalf)
          with_rows<kRows>(rows, [&](auto count) {
            widen_block<V, count.value>(wide.data() + (row - m_begin) * ldw + k_begin, ldw, panel + 2 * c, depth / 2, tile.sum + c);
          });
      });
}

/// vpmaddubsw adds two products in 16 bits; kFlush of them are summed there before widening. Exact when
/// 2 * kFlush * max_x * max|w| <= 32767. V::keep stops the compiler from rebalancing chains of sums into trees, which would need
/// more registers than there are.
template <typename V, int kRows, int kFlush>
[[gnu::always_inline]] inline void maddubs_block(const std::uint8_t* x, std::int64_t ldx, const std::int8_t* w, std::int64_t steps,
                                                 std::int32_t* out) {
  typename V::I32 sum[kRows][2];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = V::zero();
#pragma GCC unroll 4
  for (std::int64_t s = 0; s < steps; s += kFlush, x += 4 * kFlush, w += kFlush * kPanel * 4)
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
      for (int c = 0; c < 2; ++c) {
        typename V::I16 part = V::maddubs(V::broadcast(x + r * ldx), V::load(w + 32 * c));
        if constexpr (kFlush == 2)
          part = V::add16(part, V::maddubs(V::broadcast(x + r * ldx + 4), V::load(w + kPanel * 4 + 32 * c)));
        sum[r][c] = V::add(sum[r][c], V::add_pairs(part));
        V::keep(sum[r][c]);
      }
  store_sums<V>(sum, out);
}

/// The same for a kFlush so large that the 16-bit sums deserve registers of their own, also with two quads a byte.
template <typename V, int kRows, int kFlush, bool kNibbles>
[[gnu::always_inline]] inline void deep_block(const std::uint8_t* x, std::int64_t ldx, const std::int8_t* w, std::int64_t steps,
                                              std::int32_t* out) {
  constexpr int kQuadsPerLoad = kNibbles ? 2 : 1;
  typename V::I32 sum[kRows][2];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = V::zero();
  for (std::int64_t s = 0; s < steps; s += kFlush) {
    typename V::I16 part[kRows][2];
    const auto multiply = [&](typename V::I8 w0, typename V::I8 w1, const std::uint8_t* quads, bool first) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const typename V::I8 quad = V::broadcast(quads + r * ldx);
        const typename V::I16 p0 = V::maddubs(quad, w0), p1 = V::maddubs(quad, w1);
        part[r][0] = first ? p0 : V::add16(part[r][0], p0);
        part[r][1] = first ? p1 : V::add16(part[r][1], p1);
        V::keep(part[r][0]);
        V::keep(part[r][1]);
      }
    };
    // kFlush divides the number of steps: K is padded to 16 quads.
#pragma GCC unroll 16
    for (int f = 0; f < kFlush; f += kQuadsPerLoad, w += kPanel * 4) {
      const typename V::I8 b0 = V::load(w), b1 = V::load(w + 32);
      const std::uint8_t* quads = x + 4 * (s + f);
      if constexpr (kNibbles) {
        multiply(V::low_nibbles(b0), V::low_nibbles(b1), quads, f == 0);
        multiply(V::high_nibbles(b0), V::high_nibbles(b1), quads + 4, false);
      } else {
        multiply(b0, b1, quads, f == 0);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      sum[r][0] = V::add(sum[r][0], V::add_pairs(part[r][0]));
      sum[r][1] = V::add(sum[r][1], V::add_pairs(part[r][1]));
    }
  }
  store_sums<V>(sum, out);
}

template <typename V, int kRows, int kFlush, bool kNibbles>
void maddubs_gemm(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w, const Epilogue& epilogue, std::int64_t m_begin,
                  std::int64_t m_end, std::int64_t panel_begin, std::int64_t panel_end) {
  static_assert((kPackedK / 4) % kFlush == 0);
  for_each_tile<kRows>(w, epilogue, m_begin, m_end, panel_begin, panel_end,
                       [&](std::int64_t row, const std::int8_t* panel, std::int64_t k, std::int64_t depth, int rows, Tile& tile) {
                         const std::uint8_t* rows_x = x + row * ldx + k;
                         for (int c = 0; c < kPanel; c += kHalf)
                           with_rows<kRows>(rows, [&](auto count) {
                             if constexpr (kFlush <= 2)
                               maddubs_block<V, count.value, kFlush>(rows_x, ldx, panel + 4 * c, depth / 4, tile.sum + c);
                             else
                               deep_block<V, count.value, kFlush, kNibbles>(rows_x, ldx, panel + 4 * c, depth / 4, tile.sum + c);
                           });
                       });
}

}  // namespace
}  // namespace quell::kernels
