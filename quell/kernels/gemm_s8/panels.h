// How kernels come by the panels that they multiply with: as they lie in memory, or unpacked.
#pragma once

#include "quell/kernels/gemm_s8/gemm_s8.h"

namespace quell::kernels {

/// Memory of this thread, at least so many bytes; the next call ends it. Not inline, since kernel
/// files are compiled for their processors alone.
std::int8_t* panel_memory(std::size_t bytes);

namespace {

class PackedPanels {
 public:
  explicit PackedPanels(const PackedWeights& w) : w_(w) {}
  const std::int8_t* operator()(std::int64_t panel) const { return w_.panel(panel); }
  /// From a panel's begin to index `k` in it.
  std::int64_t bytes_of(std::int64_t k) const { return w_.bytes_of(k); }

 private:
  const PackedWeights& w_;
};

/// Four quads of 128 bytes from the 128 bytes that they share.
inline void unpack_crumbs(const std::uint8_t* __restrict bytes, std::int8_t* __restrict quads) {
  constexpr std::int64_t kBytes = kPanel * 4;
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q)
    for (std::int64_t i = 0; i < kBytes; ++i) {
      const int code = bytes[i] >> (2 * q) & 3;
      quads[q * kBytes + i] = static_cast<std::int8_t>((code ^ 2) - 2);
    }
}

/// Panels of kCrumbs as kQuads, for kernels of whole codes: where there are many rows, a panel is
/// unpacked once for all of them. One at a time, in memory of the thread.
class UnpackedPanels {
 public:
  explicit UnpackedPanels(const PackedWeights& w)
      : w_(w), quads_(panel_memory(static_cast<std::size_t>(bytes_of(w.depth())))) {}
  const std::int8_t* operator()(std::int64_t panel) const {
    keep_order();
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(w_.panel(panel));
    for (std::int64_t k = 0; k < w_.depth(); k += kUnit)
      unpack_crumbs(bytes + w_.bytes_of(k), quads_ + bytes_of(k));
    keep_order();
    return quads_;
  }
  static std::int64_t bytes_of(std::int64_t k) { return k * kPanel; }

 private:
  /// The compiler does not see that tiles are loaded from memory.
  static void keep_order() { __asm__ volatile("" ::: "memory"); }

  static constexpr std::int64_t kUnit = 16;  ///< of k that share their bytes
  const PackedWeights& w_;
  std::int8_t* quads_;
};

}  // namespace
}  // namespace quell::kernels
