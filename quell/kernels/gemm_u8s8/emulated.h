// The vector operations of the kernel texts in plain C++, bit for bit as the instructions define them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace quell::kernels {

struct EmulatedVnni {
  using I32 = std::array<std::int32_t, 16>;
  using I8 = std::array<std::uint8_t, 64>;
  static I32 zero() { return {}; }
  static I8 load(const std::int8_t* p) {
    I8 v;
    std::memcpy(v.data(), p, 64);
    return v;
  }
  static I8 broadcast(std::int32_t quad) {
    I8 v;
    for (std::size_t i = 0; i < 16; ++i) std::memcpy(v.data() + 4 * i, &quad, 4);
    return v;
  }
  static I32 dot(I32 sum, const I8& x, const I8& w) {  // vpdpbusd
    for (std::size_t i = 0; i < 64; ++i) sum[i / 4] += static_cast<std::int32_t>(x[i]) * static_cast<std::int8_t>(w[i]);
    return sum;
  }
  static void store(std::int32_t* p, const I32& v, std::int64_t columns) {
    std::copy_n(v.begin(), static_cast<std::size_t>(columns), p);
  }
};

struct EmulatedAvx2 {
  using I32 = std::array<std::int32_t, 8>;
  using I16 = std::array<std::int16_t, 16>;
  using I8 = std::array<std::uint8_t, 32>;
  static I32 zero() { return {}; }
  static I32 add(I32 a, const I32& b) {
    for (std::size_t i = 0; i < 8; ++i) a[i] += b[i];
    return a;
  }
  static void store(std::int32_t* p, const I32& v) { std::copy(v.begin(), v.end(), p); }
  static I8 load(const std::int8_t* p) {
    I8 v;
    std::memcpy(v.data(), p, 32);
    return v;
  }
  static I8 broadcast(std::int32_t quad) {
    I8 v;
    for (std::size_t i = 0; i < 8; ++i) std::memcpy(v.data() + 4 * i, &quad, 4);
    return v;
  }
  static I16 broadcast_u8x4(const std::uint8_t* p) {
    I16 v;
    for (std::size_t i = 0; i < 16; ++i) v[i] = p[i % 4];
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
      const int sum = x[2 * i] * static_cast<std::int8_t>(w[2 * i]) + x[2 * i + 1] * static_cast<std::int8_t>(w[2 * i + 1]);
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
