// The AVX2 kernel texts over `V`: 16 int16 or 8 int32 lanes. Instantiated with intrinsics in
// avx2.cpp and with plain C++ (emulated.h) in the test. A panel's 32 columns are done in two halves
// of two registers, so that the accumulators fit sixteen. One row takes all four at once: its limit
// is memory, which then is read in order.
#pragma once

#include <type_traits>
#include <vector>

#include "quell/kernels/gemm_s8/epilogue.h"
#include "quell/kernels/gemm_s8/rows.h"

namespace quell::kernels {
namespace {

inline constexpr int kHalf = 16;
/// So many rows unpack weights of 2 bits in registers (measured).
inline constexpr std::int64_t kFewRows = 4;

/// body(rows, registers, first column) with both counts as constants.
template <int kRows, typename Body>
[[gnu::always_inline]] inline void with_columns(int rows, Body body) {
  if (rows == 1) return body(std::integral_constant<int, 1>{}, std::integral_constant<int, 4>{}, 0);
  for (int c = 0; c < kPanel; c += kHalf)
    with_rows<kRows>(rows, [&](auto count) { body(count, std::integral_constant<int, 2>{}, c); });
}

/// One row waits for memory: the processor's own prefetcher stops at pages.
template <int kRows>
[[gnu::always_inline]] inline void prefetch_weights(const std::int8_t* w) {
  if constexpr (kRows == 1) __builtin_prefetch(w + 2048);
}

template <typename T, int kRows, int kVectors, typename F>
[[gnu::always_inline]] inline void for_all(T (&values)[kRows][kVectors], F f) {
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) f(values[r][c]);
}

template <typename V, int kRows, int kVectors>
[[gnu::always_inline]] inline void store_sums(const typename V::I32 (&sum)[kRows][kVectors],
                                              std::int32_t* out) {
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) V::store(out + r * kPanel + 8 * c, sum[r][c]);
}

/// Exact for all codes: 16-bit products. x: rows of widened codes.
template <typename V, int kRows, int kVectors>
[[gnu::always_inline]] inline void widen_block(const std::int16_t* x, std::int64_t ldx,
                                               const std::int8_t* w, std::int64_t pairs,
                                               std::int32_t* out) {
  typename V::I32 sum[kRows][kVectors];
  for_all(sum, [](auto& s) { s = V::zero(); });
#pragma GCC unroll 2
  for (std::int64_t s = 0; s < pairs; ++s, w += kPanel * 2) {
    prefetch_weights<kRows>(w);
    typename V::I16 wide[kVectors];
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) wide[c] = V::widen_s8x16(w + 16 * c);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const typename V::I16 pair = V::broadcast_pair(x + r * ldx + 2 * s);
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) sum[r][c] = V::add(sum[r][c], V::madd(pair, wide[c]));
    }
  }
  store_sums<V>(sum, out);
}

template <typename V>
void widen_gemm(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w,
                const Epilogue& epilogue, std::int64_t m_begin, std::int64_t m_end,
                std::int64_t panel_begin, std::int64_t panel_end) {
  constexpr int kRows = 6;
  const std::int64_t k = w.depth(), ldw = k + 32;
  // Widened once for all panels of the call.
  thread_local std::vector<std::int16_t> wide;
  if (wide.size() < static_cast<std::size_t>((m_end - m_begin) * ldw))
    wide.resize(static_cast<std::size_t>((m_end - m_begin) * ldw));
  for (std::int64_t i = m_begin; i < m_end; ++i)
    for (std::int64_t c = 0; c < k; ++c)
      wide[static_cast<std::size_t>((i - m_begin) * ldw + c)] = x[i * ldx + c];
  for_each_tile<kRows>(w, epilogue, m_begin, m_end, panel_begin, panel_end,
                       [&](std::int64_t row, const std::int8_t* panel, std::int64_t k_begin,
                           std::int64_t depth, int rows, Tile& tile) {
                         with_columns<kRows>(rows, [&](auto count, auto vectors, int c) {
                           widen_block<V, count.value, vectors.value>(
                               wide.data() + (row - m_begin) * ldw + k_begin, ldw, panel + 2 * c,
                               depth / 2, tile.sum + c);
                         });
                       });
}

/// vpmaddubsw adds two products in 16 bits; kFlush of them are summed there before widening. Exact
/// when 2 * kFlush * max_x * max|w| <= 32767. V::keep stops the compiler from rebalancing chains of
/// sums into trees, which would need more registers than there are.
template <typename V, int kRows, int kVectors, int kFlush>
[[gnu::always_inline]] inline void maddubs_block(const std::uint8_t* x, std::int64_t ldx,
                                                 const std::int8_t* w, std::int64_t steps,
                                                 std::int32_t* out) {
  typename V::I32 sum[kRows][kVectors];
  for_all(sum, [](auto& s) { s = V::zero(); });
#pragma GCC unroll 4
  for (std::int64_t s = 0; s < steps; s += kFlush, x += 4 * kFlush, w += kFlush * kPanel * 4) {
#pragma GCC unroll 2
    for (int f = 0; f < kFlush; ++f) {
      prefetch_weights<kRows>(w + f * kPanel * 4);
      prefetch_weights<kRows>(w + f * kPanel * 4 + 64);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) {
        typename V::I16 part = V::maddubs(V::broadcast(x + r * ldx), V::load(w + 32 * c));
        if constexpr (kFlush == 2)
          part = V::add16(
              part, V::maddubs(V::broadcast(x + r * ldx + 4), V::load(w + kPanel * 4 + 32 * c)));
        sum[r][c] = V::add(sum[r][c], V::add_pairs(part));
        V::keep(sum[r][c]);
      }
  }
  store_sums<V>(sum, out);
}

/// The same for a kFlush so large that the 16-bit sums deserve registers of their own, also with
/// two quads a byte.
template <typename V, int kRows, int kVectors, int kFlush, bool kNibbles>
[[gnu::always_inline]] inline void deep_block(const std::uint8_t* x, std::int64_t ldx,
                                              const std::int8_t* w, std::int64_t steps,
                                              std::int32_t* out) {
  constexpr int kQuadsPerLoad = kNibbles ? 2 : 1;
  typename V::I32 sum[kRows][kVectors];
  for_all(sum, [](auto& s) { s = V::zero(); });
  for (std::int64_t s = 0; s < steps; s += kFlush) {
    typename V::I16 part[kRows][kVectors];
    const auto multiply = [&](const typename V::I8(&weights)[kVectors], const std::uint8_t* quads,
                              bool first) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const typename V::I8 quad = V::broadcast(quads + r * ldx);
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) {
          const typename V::I16 product = V::maddubs(quad, weights[c]);
          part[r][c] = first ? product : V::add16(part[r][c], product);
          V::keep(part[r][c]);
        }
      }
    };
    // kFlush divides the number of steps: K is padded to 16 quads.
#pragma GCC unroll 16
    for (int f = 0; f < kFlush; f += kQuadsPerLoad, w += kPanel * 4) {
      prefetch_weights<kRows>(w);
      prefetch_weights<kRows>(w + 64);
      typename V::I8 bytes[kVectors], quads[kVectors];
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) bytes[c] = V::load(w + 32 * c);
      const std::uint8_t* codes = x + 4 * (s + f);
      if constexpr (kNibbles) {
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) quads[c] = V::low_nibbles(bytes[c]);
        multiply(quads, codes, f == 0);
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) quads[c] = V::high_nibbles(bytes[c]);
        multiply(quads, codes + 4, false);
      } else {
        multiply(bytes, codes, f == 0);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) sum[r][c] = V::add(sum[r][c], V::add_pairs(part[r][c]));
  }
  store_sums<V>(sum, out);
}

/// The same with four quads a byte: kFlush of them are summed in 16 bits.
template <typename V, int kRows, int kVectors, int kFlush>
[[gnu::always_inline]] inline void crumb_block(const std::uint8_t* x, std::int64_t ldx,
                                               const std::int8_t* w, std::int64_t steps,
                                               std::int32_t* out) {
  typename V::I32 sum[kRows][kVectors];
  for_all(sum, [](auto& s) { s = V::zero(); });
  for (std::int64_t s = 0; s < steps; s += kFlush) {
    typename V::I16 part[kRows][kVectors];
#pragma GCC unroll 4
    for (int f = 0; f < kFlush; f += 4, w += kPanel * 4) {
      prefetch_weights<kRows>(w);
      prefetch_weights<kRows>(w + 64);
      const std::uint8_t* codes = x + 4 * (s + f);
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) {
        const typename V::I8 bytes = V::load(w + 32 * c);
        const typename V::I8 quads[4] = {V::template crumbs<0>(bytes), V::template crumbs<1>(bytes),
                                         V::template crumbs<2>(bytes),
                                         V::template crumbs<3>(bytes)};
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q)
#pragma GCC unroll 4
          for (int r = 0; r < kRows; ++r) {
            const typename V::I16 product =
                V::maddubs(V::broadcast(codes + r * ldx + 4 * q), quads[q]);
            part[r][c] = f + q == 0 ? product : V::add16(part[r][c], product);
            V::keep(part[r][c]);
          }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) sum[r][c] = V::add(sum[r][c], V::add_pairs(part[r][c]));
  }
  store_sums<V>(sum, out);
}

template <typename V, int kRows, int kFlush, bool kNibbles, typename Panels = PackedPanels>
void maddubs_gemm(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w,
                  const Epilogue& epilogue, std::int64_t m_begin, std::int64_t m_end,
                  std::int64_t panel_begin, std::int64_t panel_end) {
  static_assert((kPackedK / 4) % kFlush == 0);
  for_each_tile<kRows, Panels>(w, epilogue, m_begin, m_end, panel_begin, panel_end,
                               [&](std::int64_t row, const std::int8_t* panel, std::int64_t k,
                                   std::int64_t depth, int rows, Tile& tile) {
                                 const std::uint8_t* rows_x = x + row * ldx + k;
                                 with_columns<kRows>(rows, [&](auto count, auto vectors, int c) {
                                   if constexpr (kFlush <= 2)
                                     maddubs_block<V, count.value, vectors.value, kFlush>(
                                         rows_x, ldx, panel + 4 * c, depth / 4, tile.sum + c);
                                   else
                                     deep_block<V, count.value, vectors.value, kFlush, kNibbles>(
                                         rows_x, ldx, panel + 4 * c, depth / 4, tile.sum + c);
                                 });
                               });
}

/// Weights of 2 bits: few rows unpack them in registers, each block of rows again; many read
/// unpacked panels.
template <typename V, int kRows, int kFlush>
void crumbs_gemm(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w,
                 const Epilogue& epilogue, std::int64_t m_begin, std::int64_t m_end,
                 std::int64_t panel_begin, std::int64_t panel_end) {
  if (m_end - m_begin > kFewRows)
    return maddubs_gemm<V, kRows, kFlush, false, UnpackedPanels>(x, ldx, w, epilogue, m_begin,
                                                                 m_end, panel_begin, panel_end);

  for_each_tile<kRows>(w, epilogue, m_begin, m_end, panel_begin, panel_end,
                       [&](std::int64_t row, const std::int8_t* panel, std::int64_t k,
                           std::int64_t depth, int rows, Tile& tile) {
                         const std::uint8_t* rows_x = x + row * ldx + k;
                         with_columns<kRows>(rows, [&](auto count, auto vectors, int c) {
                           crumb_block<V, count.value, vectors.value, kFlush>(
                               rows_x, ldx, panel + 4 * c, depth / 4, tile.sum + c);
                         });
                       });
}

}  // namespace
}  // namespace quell::kernels
