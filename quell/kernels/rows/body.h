// The text of the row kernels.
#pragma once

#include <cmath>

#include "quell/kernels/rows/rows.h"
#include "quell/kernels/simd/activations.h"

namespace quell::kernels {
namespace {

/// Calls `full(i)` for whole groups of sixteen and `part(i, count)` for the rest.
template <typename Full, typename Part>
QUELL_SIMD void by_lanes(std::int64_t begin, std::int64_t end, Full full, Part part) {
  std::int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) full(i);
  if (i < end) part(i, end - i);
}

/// Sum over i of f(x[i]...) in double: sixteen partial sums, then halves onto each other.
template <typename F, typename... Rows>
QUELL_SIMD double sum_in_double(std::int64_t n, F f, const Rows*... x) {
  constexpr int kWidth = kRegisterBytes / 8, kCount = kLanes / kWidth;
  using Register [[gnu::vector_size(kRegisterBytes)]] = double;
  using Half [[gnu::vector_size(kRegisterBytes / 2)]] = float;
  const auto chunk = [](const float* p) {
    Half h;
    std::memcpy(&h, p, sizeof(h));
    return __builtin_convertvector(h, Register);
  };
  Register sums[kCount] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int c = 0; c < kCount; ++c) sums[c] += f(chunk(x + i + c * kWidth)...);
  double lane[kLanes];
  std::memcpy(lane, sums, sizeof(lane));
  for (int j = 0; i < n; ++i, ++j) lane[j] += f((Register{} + static_cast<double>(x[i]))...)[0];
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int j = 0; j < width; ++j) lane[j] += lane[j + width];
  return lane[0];
}

/// Writes a group of codes; returns them, 0 past `count`.
QUELL_SIMD I32 write_codes(std::uint8_t* p, std::int64_t count, const I32& codes) {
  if (count == kLanes) {
    store_u8(p, codes);
    return codes;
  }
  store_u8_some(p, codes, count);
  std::int32_t kept[kLanes] = {};
  std::int32_t all[kLanes];
  store(all, codes);
  for (std::int64_t i = 0; i < count; ++i) kept[i] = all[i];
  return load(kept);
}

/// Writes a group of values; returns the sum of its codes.
QUELL_SIMD I32 write(const RowOutput& out, std::int64_t i, std::int64_t count, const F32& v) {
  const bool full = count == kLanes;
  if (out.f32) full ? store(out.f32 + i, v) : store_some(out.f32 + i, v, count);
  if (!out.codes) return splat(0);
  const CodeArgs& q = out.args;
  return write_codes(out.codes + i, count,
                     quantize(v, splat(q.inv_scale), splat(q.zero), splat(q.low), splat(q.high)));
}

inline void normalize_row(bool centered, const float* x, const float* weight, const float* bias,
                          double eps, std::int64_t n, const RowOutput& out) {
  const auto count = static_cast<double>(n);
  const double mean = centered ? sum_in_double(
                                     n, [](const auto& v) { return v; }, x) /
                                     count
                               : 0.0;
  const double square = sum_in_double(
      n, [mean](const auto& v) { return (v - mean) * (v - mean); }, x);
  const auto inv = static_cast<float>(1.0 / std::sqrt(square / count + eps)),
             center = static_cast<float>(mean);
  const auto element = [&](std::int64_t i, std::int64_t lanes) {
    const auto get = [&](const float* p) {
      return lanes == kLanes ? load(p + i) : load_some(p + i, lanes);
    };
    F32 v = (get(x) - center) * inv;
    if (weight) v = v * get(weight);
    if (bias) v = v + get(bias);
    write(out, i, lanes, v);
  };
  by_lanes(
      0, n, [&](std::int64_t i) { element(i, kLanes); }, element);
}

inline std::int32_t softmax_row(float* scores, std::int64_t begin, std::int64_t end, std::int64_t n,
                                const std::int32_t* mask, const RowOutput& out) {
  constexpr float kLow = -INFINITY;
  const auto masked = [&](std::int64_t i, std::int64_t count, const F32& v, const F32& other) {
    if (count == kLanes) return mask ? select(load(mask + i), v, other) : v;
    std::int32_t m[kLanes] = {};
    for (std::int64_t j = 0; j < count; ++j) m[j] = mask ? mask[i + j] : 1;
    return select(load(m), v, other);
  };
  const auto scores_of = [&](std::int64_t i, std::int64_t count) {
    return count == kLanes ? load(scores + i) : load_some(scores + i, count);
  };
  F32 highs = splat(kLow);
  const auto find = [&](std::int64_t i, std::int64_t count) {
    highs = max(highs, masked(i, count, scores_of(i, count), splat(kLow)));
  };
  by_lanes(
      begin, end, [&](std::int64_t i) { find(i, kLanes); }, find);
  const float high = max_lanes(highs);
  I32 total = splat(0);
  if (high == kLow) {  // nothing to attend to (or NaN scores, which the caller's checks report)
    const auto spread = [&](std::int64_t i, std::int64_t count) {
      total = total + write(out, i, count, splat(1.0F / static_cast<float>(n)));
    };
    by_lanes(
        0, n, [&](std::int64_t i) { spread(i, kLanes); }, spread);
    return sum_lanes(total);
  }
  F32 sums = splat(0.0F);
  const auto raise = [&](std::int64_t i, std::int64_t count) {
    const F32 e = masked(i, count, exp(scores_of(i, count) - high), splat(0.0F));
    sums = sums + e;
    count == kLanes ? store(scores + i, e) : store_some(scores + i, e, count);
  };
  by_lanes(
      begin, end, [&](std::int64_t i) { raise(i, kLanes); }, raise);
  const float sum = sum_lanes(sums);
  const auto zero = [&](std::int64_t i, std::int64_t count) {
    total = total + write(out, i, count, splat(0.0F));
  };
  by_lanes(
      0, begin, [&](std::int64_t i) { zero(i, kLanes); }, zero);
  if (out.f32) {
    const auto finish = [&](std::int64_t i, std::int64_t count) {
      total = total + write(out, i, count, scores_of(i, count) / sum);
    };
    by_lanes(
        begin, end, [&](std::int64_t i) { finish(i, kLanes); }, finish);
  } else {  // codes alone: one factor instead of a division
    const CodeArgs& q = out.args;
    const F32 factor = splat(q.inv_scale / sum);
    const I32 zero_code = splat(q.zero), low = splat(q.low), top = splat(q.high);
    const auto finish = [&](std::int64_t i, std::int64_t count) {
      total = total + write_codes(out.codes + i, count,
                                  quantize(scores_of(i, count), factor, zero_code, low, top));
    };
    by_lanes(
        begin, end, [&](std::int64_t i) { finish(i, kLanes); }, finish);
  }
  by_lanes(
      end, n, [&](std::int64_t i) { zero(i, kLanes); }, zero);
  return sum_lanes(total);
}

inline void activate_row(Activation kind, const float* x, float* y, std::int64_t n) {
  with_activation(kind, [&](auto act) {
    by_lanes(
        0, n, [&](std::int64_t i) { store(y + i, act(load(x + i))); },
        [&](std::int64_t i, std::int64_t count) {
          store_some(y + i, act(load_some(x + i, count)), count);
        });
  });
}

inline std::int32_t quantize_row(const float* x, std::int64_t n, const CodeArgs& args,
                                 std::uint8_t* codes) {
  const RowOutput out{nullptr, codes, args};
  I32 total = splat(0);
  by_lanes(
      0, n, [&](std::int64_t i) { total = total + write(out, i, kLanes, load(x + i)); },
      [&](std::int64_t i, std::int64_t count) {
        total = total + write(out, i, count, load_some(x + i, count));
      });
  return sum_lanes(total);
}

template <int kPlanes>
QUELL_SIMD void quantize_planes(const float* const* planes, std::int64_t n, const CodeArgs& args,
                                std::uint8_t* codes) {
  const F32 inv_scale = splat(args.inv_scale);
  const I32 zero = splat(args.zero), low = splat(args.low), high = splat(args.high);
  const auto pixels = [&](auto get) {
    I32 pixel = quantize(get(planes[0]), inv_scale, zero, low, high);
    for (int c = 1; c < kPlanes; ++c)
      pixel = pixel | quantize(get(planes[c]), inv_scale, zero, low, high) << (8 * c);
    return pixel;
  };
  by_lanes(
      0, n,
      [&](std::int64_t i) {
        const I32 pixel = pixels([i](const float* plane) { return load(plane + i); });
        std::memcpy(codes + 4 * i, &pixel, sizeof(pixel));
      },
      [&](std::int64_t i, std::int64_t count) {
        const I32 pixel =
            pixels([i, count](const float* plane) { return load_some(plane + i, count); });
        std::memcpy(codes + 4 * i, &pixel, static_cast<std::size_t>(4 * count));
      });
}

inline void quantize_pixels(const float* const* planes, std::int64_t count, std::int64_t n,
                            const CodeArgs& args, std::uint8_t* codes) {
  switch (count) {
    case 1: return quantize_planes<1>(planes, n, args, codes);
    case 2: return quantize_planes<2>(planes, n, args, codes);
    case 3: return quantize_planes<3>(planes, n, args, codes);
    default: return quantize_planes<4>(planes, n, args, codes);
  }
}

/// Range of value(i, count), a group of up to sixteen.
template <typename Value>
QUELL_SIMD RowRange range_by_lanes(std::int64_t n, Value value) {
  F32 low = splat(INFINITY), high = splat(-INFINITY);
  const auto see = [&](const F32& v) {
    low = min(low, v);
    high = max(high, v);
  };
  by_lanes(
      0, n, [&](std::int64_t i) { see(value(i, kLanes)); },
      [&](std::int64_t i, std::int64_t count) {
        float rest[kLanes];
        store(rest, value(i, count));
        for (std::int64_t j = count; j < kLanes; ++j) rest[j] = rest[0];
        see(load(rest));
      });
  return {-max_lanes(0.0F - low), max_lanes(high)};
}

QUELL_SIMD F32 load_lanes(const float* x, std::int64_t count) {
  return count == kLanes ? load(x) : load_some(x, count);
}

inline RowRange range_row(const float* x, std::int64_t n) {
  return range_by_lanes(
      n, [&](std::int64_t i, std::int64_t count) { return load_lanes(x + i, count); });
}

/// Calls f(value), value(i, count) being x, or x times or over the factors.
template <typename F>
QUELL_SIMD auto with_factor(const float* x, const float* factor, Factor kind, F f) {
  const auto get = [&](std::int64_t i, std::int64_t count) { return load_lanes(x + i, count); };
  const auto by = [&](std::int64_t i, std::int64_t count) { return load_lanes(factor + i, count); };
  if (kind == Factor::kNone) return f(get);
  if (kind == Factor::kMultiply)
    return f([&](std::int64_t i, std::int64_t count) { return get(i, count) * by(i, count); });
  return f([&](std::int64_t i, std::int64_t count) {  // most factors are 1, and divisions are slow
    const F32 v = get(i, count), divisor = by(i, count);
    constexpr float kNothing =
        0x1p-26F;  // less than what the numbers beside 1 differ by, which subtraction tells exactly
    return all_below(abs(divisor - 1.0F), kNothing) ? v : v / divisor;
  });
}

inline RowRange scaled_range_row(const float* x, const float* factor, Factor kind, std::int64_t n) {
  return with_factor(x, factor, kind, [&](auto value) { return range_by_lanes(n, value); });
}

inline std::int32_t quantize_scaled_row(const float* x, const float* factor, Factor kind,
                                        std::int64_t n, float step, const CodeArgs& args,
                                        std::uint8_t* codes) {
  // rne(x / step) without dividing: x times the rounded 1 / step is off by less than kNear where
  // codes are not clamped (|x / step| < 400), so that only what lies so close to a tie needs the
  // quotient itself.
  constexpr float kNear = 1e-4F;
  const F32 divisor = splat(step), one = splat(1.0F), inverse = splat(1.0F / step);
  const I32 zero = splat(args.zero), low = splat(args.low), high = splat(args.high);
  return with_factor(x, factor, kind, [&](auto value) {
    I32 total = splat(0);
    const auto element = [&](std::int64_t i, std::int64_t count) {
      const F32 v = value(i, count);
      F32 quotient = v * inverse;
      const F32 inside = min(max(quotient, splat(-1024.0F)), splat(1024.0F));
      if (!all_below(abs(inside - round_small(inside)), 0.5F - kNear)) quotient = v / divisor;
      total = total + write_codes(codes + i, count, quantize(quotient, one, zero, low, high));
    };
    by_lanes(
        0, n, [&](std::int64_t i) { element(i, kLanes); }, element);
    return sum_lanes(total);
  });
}

inline double squared_difference_row(const float* a, const float* b, std::int64_t n) {
  return sum_in_double(
      n, [](const auto& x, const auto& y) { return (x - y) * (x - y); }, a, b);
}

inline constexpr RowKernels kRows = {normalize_row,    softmax_row,         activate_row,
                                     quantize_row,     quantize_pixels,     range_row,
                                     scaled_range_row, quantize_scaled_row, squared_difference_row};

}  // namespace
}  // namespace quell::kernels
