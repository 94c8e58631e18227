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

/// Sum over i of f(x[i]) in double: sixteen partial sums, then halves onto each other.
template <typename F>
QUELL_SIMD double sum_in_double(const float* x, std::int64_t n, F f) {
  constexpr int kWidth = kRegisterBytes / 8, kCount = kLanes / kWidth;
  using Register [[gnu::vector_size(kRegisterBytes)]] = double;
  using Half [[gnu::vector_size(kRegisterBytes / 2)]] = float;
  Register sums[kCount] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int c = 0; c < kCount; ++c) {
      Half h;
      std::memcpy(&h, x + i + c * kWidth, sizeof(h));
      sums[c] += f(__builtin_convertvector(h, Register));
    }
  double lane[kLanes];
  std::memcpy(lane, sums, sizeof(lane));
  for (int j = 0; i < n; ++i, ++j) lane[j] += f(Register{} + static_cast<double>(x[i]))[0];
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
  return write_codes(out.codes + i, count, quantize(v, splat(q.inv_scale), splat(q.zero), splat(q.low), splat(q.high)));
}

inline void normalize_row(bool centered, const float* x, const float* weight, const float* bias, double eps, std::int64_t n,
                          const RowOutput& out) {
  const auto count = static_cast<double>(n);
  const double mean = centered ? sum_in_double(x, n, [](const auto& v) { return v; }) / count : 0.0;
  const double square = sum_in_double(x, n, [mean](const auto& v) { return (v - mean) * (v - mean); });
  const auto inv = static_cast<float>(1.0 / std::sqrt(square / count + eps)), center = static_cast<float>(mean);
  const auto element = [&](std::int64_t i, std::int64_t lanes) {
    const auto get = [&](const float* p) { return lanes == kLanes ? load(p + i) : load_some(p + i, lanes); };
    F32 v = (get(x) - center) * inv;
    if (weight) v = v * get(weight);
    if (bias) v = v + get(bias);
    write(out, i, lanes, v);
  };
  by_lanes(
      0, n, [&](std::int64_t i) { element(i, kLanes); }, element);
}

inline std::int32_t softmax_row(float* scores, std::int64_t begin, std::int64_t end, std::int64_t n, const std::int32_t* mask,
                                const RowOutput& out) {
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
  const auto zero = [&](std::int64_t i, std::int64_t count) { total = total + write(out, i, count, splat(0.0F)); };
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
      total = total + write_codes(out.codes + i, count, quantize(scores_of(i, count), factor, zero_code, low, top));
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
        [&](std::int64_t i, std::int64_t count) { store_some(y + i, act(load_some(x + i, count)), count); });
  });
}

inline std::int32_t quantize_row(const float* x, std::int64_t n, const CodeArgs& args, std::uint8_t* codes) {
  const RowOutput out{nullptr, codes, args};
  I32 total = splat(0);
  by_lanes(
      0, n, [&](std::int64_t i) { total = total + write(out, i, kLanes, load(x + i)); },
      [&](std::int64_t i, std::int64_t count) { total = total + write(out, i, count, load_some(x + i, count)); });
  return sum_lanes(total);
}

inline RowRange range_row(const float* x, std::int64_t n) {
  F32 low = splat(x[0]), high = low;
  by_lanes(
      0, n,
      [&](std::int64_t i) {
        low = min(low, load(x + i));
        high = max(high, load(x + i));
      },
      [&](std::int64_t i, std::int64_t count) {
        float rest[kLanes];
        store(rest, splat(x[0]));
        std::memcpy(rest, x + i, static_cast<std::size_t>(count) * sizeof(float));
        low = min(low, load(rest));
        high = max(high, load(rest));
      });
  return {-max_lanes(0.0F - low), max_lanes(high)};
}

inline constexpr RowKernels kRows = {normalize_row, softmax_row, activate_row, quantize_row, range_row};

}  // namespace
}  // namespace quell::kernels
