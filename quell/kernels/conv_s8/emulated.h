// The vectors of the kernel texts in plain C++, lane for lane as the instructions define them.
#pragma once

#include <algorithm>
#include <cmath>

#include "quell/kernels/conv_s8/products.h"

namespace quell::kernels {
namespace {

inline std::int16_t saturate_i16(std::int32_t v) {
  return static_cast<std::int16_t>(std::clamp(v, -32768, 32767));
}

template <int kBytes>
struct EmulatedRegister : VectorTypes<kBytes> {
  using Types = VectorTypes<kBytes>;
  using typename Types::F32;
  using typename Types::I16;
  using typename Types::I32;
  using typename Types::U8;
  static constexpr int kWidth = Types::kWidth, kLaneBytes = 16;

  template <typename Vector, typename F>
  static Vector each(int count, F f) {
    Vector v{};
    for (int i = 0; i < count; ++i) v[i] = f(i);
    return v;
  }

  static I32 broadcast(const std::uint8_t* p) {
    std::int32_t quad;
    std::memcpy(&quad, p, sizeof(quad));
    return I32{} + quad;
  }
  static I16 splat_i16(std::int16_t x) { return I16{} + x; }
  static U8 splat_u8(std::uint8_t x) { return U8{} + x; }
  static F32 to_f32(I32 v) {
    return each<F32>(kWidth, [&](int i) { return static_cast<float>(v[i]); });
  }
  /// The second operand where one is no number.
  static F32 min(F32 a, F32 b) {
    return each<F32>(kWidth, [&](int i) { return a[i] < b[i] ? a[i] : b[i]; });
  }
  static I32 round(F32 v) {
    return each<I32>(kWidth, [&](int i) {
      const bool fits = v[i] >= -2147483648.0F && v[i] < 2147483648.0F;
      return fits ? static_cast<std::int32_t>(std::nearbyint(v[i]))
                  : std::numeric_limits<std::int32_t>::min();
    });
  }
  static I32 madd(I16 a, I16 b) {
    return each<I32>(kWidth,
                     [&](int i) { return a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1]; });
  }
  static I16 maddubs(U8 x, U8 w) {
    const auto product = [&](int i) { return x[i] * static_cast<std::int8_t>(w[i]); };
    return each<I16>(kBytes / 2,
                     [&](int i) { return saturate_i16(product(2 * i) + product(2 * i + 1)); });
  }
  static I32 dot_bytes(I32 sum, U8 x, U8 w) {
    for (int i = 0; i < kBytes; ++i) sum[i / 4] += x[i] * static_cast<std::int8_t>(w[i]);
    return sum;
  }

  static I16 pack(I32 a, I32 b) {
    return each<I16>(kBytes / 2, [&](int i) {
      const int lane = i / 8, from = lane * 4 + i % 4;
      return saturate_i16(i % 8 < 4 ? a[from] : b[from]);
    });
  }
  static U8 pack(I16 a, I16 b) {
    return each<U8>(kBytes, [&](int i) {
      const int lane = i / kLaneBytes, from = lane * 8 + i % 8;
      const int word = i % kLaneBytes < 8 ? a[from] : b[from];
      return static_cast<std::uint8_t>(std::clamp(word, 0, 255));
    });
  }
  static I16 add(I16 a, I16 b) {
    return each<I16>(kBytes / 2, [&](int i) { return saturate_i16(a[i] + b[i]); });
  }
  static U8 min(U8 a, U8 b) {
    return each<U8>(kBytes, [&](int i) { return std::min<std::uint8_t>(a[i], b[i]); });
  }
  static U8 max(U8 a, U8 b) {
    return each<U8>(kBytes, [&](int i) { return std::max<std::uint8_t>(a[i], b[i]); });
  }
  static U8 in_order(U8 v) {
    return each<U8>(kBytes, [&](int i) {
      const int vector = i / kWidth, lane = i % kWidth / 4;
      return v[lane * kLaneBytes + vector * 4 + i % 4];
    });
  }
  static void interleave(U8 t0, U8 t1, U8 t2, U8 t3, U8 (&quads)[4]) {
    const U8 rows[] = {t0, t1, t2, t3};
    for (int quad = 0; quad < 4; ++quad)
      quads[quad] = each<U8>(kBytes, [&](int i) {
        const int lane = i / kLaneBytes, channel = quad * 4 + i % kLaneBytes / 4;
        return rows[i % 4][lane * kLaneBytes + channel];
      });
  }
  template <std::size_t kRows>
  static U8 join(const std::uint8_t* const (&rows)[kRows]) {
    constexpr int kEach = kBytes / static_cast<int>(kRows);
    return each<U8>(kBytes, [&](int i) { return rows[i / kEach][i % kEach]; });
  }
  template <int kTimes>
  static U8 repeat(const std::int8_t* p) {
    return each<U8>(kBytes,
                    [&](int i) { return static_cast<std::uint8_t>(p[i % (kBytes / kTimes)]); });
  }
  static F32 u8_to_f32(const std::uint8_t* p, std::int64_t count) {
    return each<F32>(static_cast<int>(std::clamp<std::int64_t>(count, 0, kWidth)),
                     [&](int i) { return static_cast<float>(p[i]); });
  }
  template <int kParts, int kPart>
  static void store_part(std::uint8_t* p, U8 v, std::int64_t count) {
    Types::template store_some<kParts, kPart>(p, v, count);
  }
};

struct EmulatedNarrowBlocks {
  static constexpr int kWidest = 32, kMaxVectors = 2;
  static constexpr int rows(int) { return 4; }
};
struct EmulatedWideBlocks {
  static constexpr int kWidest = 64, kMaxVectors = 4;
  static constexpr int rows(int vectors) { return vectors == 4 ? 6 : 8; }
};

template <int kBytes>
struct EmulatedWiden : WidenedProducts<EmulatedRegister<kBytes>>, EmulatedNarrowBlocks {};
template <int kBytes>
struct EmulatedMaddubs : BytePairProducts<EmulatedRegister<kBytes>>, EmulatedNarrowBlocks {};
template <int kBytes>
struct EmulatedAvx512Vnni : ByteOperands<EmulatedRegister<kBytes>>, EmulatedWideBlocks {
  using R = EmulatedRegister<kBytes>;
  static typename R::I32 dot(typename R::I32 sum, typename R::U8 x, typename R::U8 w) {
    return R::dot_bytes(sum, x, w);
  }
};

}  // namespace
}  // namespace quell::kernels
