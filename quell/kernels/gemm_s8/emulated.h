// The vector operations of the kernel texts in plain C++, bit for bit as the instructions define
// them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace quell::kernels {

/// kBytes-wide registers.
template <std::size_t kBytes>
struct EmulatedVector {
  using I32 = std::array<std::int32_t, kBytes / 4>;
  using I8 = std::array<std::uint8_t, kBytes>;
  static I32 zero() { return {}; }
  static I8 load(const std::int8_t* p) {
    I8 v;
    std::memcpy(v.data(), p, kBytes);
    return v;
  }
  static I8 broadcast(const std::uint8_t* p) {
    I8 v;
    for (std::size_t i = 0; i < kBytes; i += 4) std::memcpy(v.data() + i, p, 4);
    return v;
  }
  static void store(std::int32_t* p, const I32& v) { std::copy(v.begin(), v.end(), p); }
  static std::uint8_t extend(int nibble) {
    return static_cast<std::uint8_t>(nibble < 8 ? nibble : nibble - 16);
  }
  static I8 low_nibbles(I8 v) {
    for (auto& b : v) b = extend(b & 15);
    return v;
  }
  static I8 high_nibbles(I8 v) {
    for (auto& b : v) b = extend(b >> 4);
    return v;
  }
  template <int kQuad>
  static I8 crumbs(I8 v) {
    for (auto& b : v) {
      const int code = b >> (2 * kQuad) & 3;
      b = static_cast<std::uint8_t>(code < 2 ? code : code - 4);
    }
    return v;
  }
};

template <std::size_t kBytes, int kTileRows>
struct EmulatedVnni : EmulatedVector<kBytes> {
  using Base = EmulatedVector<kBytes>;
  static constexpr int kWidth = kBytes / 4, kRows = kTileRows;
  static typename Base::I32 dot(typename Base::I32 sum, const typename Base::I8& x,
                                const typename Base::I8& w) {  // vpdpbusd
    for (std::size_t i = 0; i < kBytes; ++i)
      sum[i / 4] += static_cast<std::int32_t>(x[i]) * static_cast<std::int8_t>(w[i]);
    return sum;
  }
};

struct EmulatedAvx2 : EmulatedVector<32> {
  using I16 = std::array<std::int16_t, 16>;
  static I32 add(I32 a, const I32& b) {
    for (std::size_t i = 0; i < 8; ++i) a[i] += b[i];
    return a;
  }
  static I16 add16(I16 a, const I16& b) {
    for (std::size_t i = 0; i < 16; ++i) a[i] = static_cast<std::int16_t>(a[i] + b[i]);
    return a;
  }
  static void keep(const auto&) {}
  static I16 broadcast_pair(const std::int16_t* p) {
    I16 v;
    for (std::size_t i = 0; i < 16; ++i) v[i] = p[i % 2];
    return v;
  }
  static I16 widen_s8x16(const std::int8_t* p) {
    I16 v;
    std::copy_n(p, 16, v.begin());
    return v;
  }
  static I32 madd(const I16& a, const I16& b) {  // vpmaddwd
    I32 v;
    for (std::size_t i = 0; i < 8; ++i) v[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    return v;
  }
  static I16 maddubs(const I8& x, const I8& w) {  // vpmaddubsw, saturating
    I16 v;
    for (std::size_t i = 0; i < 16; ++i) {
      const int sum = x[2 * i] * static_cast<std::int8_t>(w[2 * i]) +
                      x[2 * i + 1] * static_cast<std::int8_t>(w[2 * i + 1]);
      v[i] = static_cast<std::int16_t>(std::clamp(sum, -32768, 32767));
    }
    return v;
  }
  static I32 add_pairs(const I16& a) {
    I32 v;
    for (std::size_t i = 0; i < 8; ++i) v[i] = a[2 * i] + a[2 * i + 1];
    return v;
  }
};

}  // namespace quell::kernels
