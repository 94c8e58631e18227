// AMX in plain C++ for the tests of its kernels; an includer defines QUELL_TILE_DP and includes
// this before amx_tiles.h.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace quell::kernels {

/// AMX tiles as the instructions see them: rows and column bytes come from the configuration, loads
/// touch nothing else.
struct EmulatedTiles {
  std::uint8_t bytes[8][16][64] = {};
  std::uint8_t rows[8] = {};

  void configure(const void* config) {
    for (std::size_t t = 0; t < 8; ++t) rows[t] = static_cast<const std::uint8_t*>(config)[48 + t];
    std::memset(bytes, 0, sizeof(bytes));
  }
  void zero(std::size_t t) { std::memset(bytes[t], 0, sizeof(bytes[t])); }
  void load(std::size_t t, const void* p, std::int64_t stride) {
    for (std::int64_t r = 0; r < rows[t]; ++r)
      std::memcpy(bytes[t][r], static_cast<const char*>(p) + r * stride, 64);
  }
  void store(std::size_t t, void* p, std::int64_t stride) const {
    for (std::int64_t r = 0; r < rows[t]; ++r)
      std::memcpy(static_cast<char*>(p) + r * stride, bytes[t][r], 64);
  }
  void dpbusd(std::size_t c, std::size_t a, std::size_t b) {
    for (std::size_t m = 0; m < rows[a]; ++m)
      for (std::size_t n = 0; n < 16; ++n) {
        std::int32_t sum;
        std::memcpy(&sum, bytes[c][m] + 4 * n, 4);
        for (std::size_t k = 0; k < 64; ++k)
          sum += std::int32_t{bytes[a][m][k]} *
                 static_cast<std::int8_t>(bytes[b][k / 4][4 * n + k % 4]);
        std::memcpy(bytes[c][m] + 4 * n, &sum, 4);
      }
  }
  void dpbf16ps(std::size_t c, std::size_t a, std::size_t b) {
    const auto value = [](const std::uint8_t* p) {
      std::uint32_t bits = 0;
      std::memcpy(reinterpret_cast<char*>(&bits) + 2, p, 2);
      float v;
      std::memcpy(&v, &bits, 4);
      return v;
    };
    for (std::size_t m = 0; m < rows[a]; ++m)
      for (std::size_t n = 0; n < 16; ++n) {
        float even = 0, odd = 0, sum;
        for (std::size_t k = 0; k < 16; ++k) {
          even = std::fma(value(bytes[a][m] + 4 * k), value(bytes[b][k] + 4 * n), even);
          odd = std::fma(value(bytes[a][m] + 4 * k + 2), value(bytes[b][k] + 4 * n + 2), odd);
        }
        std::memcpy(&sum, bytes[c][m] + 4 * n, 4);
        sum += even + odd;
        std::memcpy(bytes[c][m] + 4 * n, &sum, 4);
      }
  }
};

inline thread_local EmulatedTiles emulated_tiles;

}  // namespace quell::kernels

#define QUELL_TILE_CONFIG(config) quell::kernels::emulated_tiles.configure(config)
#define QUELL_TILE_ZERO(t) quell::kernels::emulated_tiles.zero(t)
#define QUELL_TILE_LOAD(t, p, stride) quell::kernels::emulated_tiles.load(t, p, stride)
#define QUELL_TILE_STORE(t, p, stride) quell::kernels::emulated_tiles.store(t, p, stride)
