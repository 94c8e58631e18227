#include "quell/quant/pooled_codes.h"

#include <algorithm>

namespace quell {
namespace {

/// Calls see(row of x) for each tap of an output row that lies inside of the image; returns how
/// many there are.
template <typename See>
std::int64_t for_each_tap(const QuantizedRows& x, const TapTable& taps, std::int64_t row,
                          const See& see) {
  const std::int64_t image = row / taps.out.pixels();
  const std::int64_t y = row % taps.out.pixels() / taps.out.width;
  const std::int64_t first = image * taps.image.pixels();
  std::int64_t inside = 0;
  for (std::int64_t a = 0; a < taps.kernel_height; ++a)
    for (std::int64_t b = 0; b < taps.kernel_width; ++b) {
      const std::int64_t pixel = taps.pixel(y, row % taps.out.width, a, b);
      if (pixel < 0) continue;
      see(x.row(first + pixel));
      ++inside;
    }
  return inside;
}

}  // namespace

namespace {

/// to[i] = max(to[i], from[i]); the rows do not overlap.
void raise(const std::uint8_t* __restrict from, std::int64_t count, std::uint8_t* __restrict to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = std::max(to[i], from[i]);
}

}  // namespace

void max_of_codes(const QuantizedRows& x, const TapTable& taps, QuantizedRows& out,
                  ExecContext& ctx) {
  const std::int64_t channels = x.columns;
  const std::int64_t width = x.stride * taps.image.width;
  const std::int64_t out_rows = out.rows / taps.out.width;
  ctx.pool.parallel_for(out_rows, 2, [&](std::int64_t begin, std::int64_t end) {
    // First down the columns, for a whole row of the image at once, then across.
    std::vector<std::uint8_t> down(static_cast<std::size_t>(width));
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t image = r / taps.out.height * taps.image.pixels();
      const std::int64_t y = r % taps.out.height;
      std::fill(down.begin(), down.end(), std::uint8_t{0});
      for (std::int64_t a = 0; a < taps.kernel_height; ++a) {
        const std::int64_t row = taps.rows[static_cast<std::size_t>(y * taps.kernel_height + a)];
        if (row >= 0) raise(x.row(image + row * taps.image.width), width, down.data());
      }
      for (std::int64_t p = 0; p < taps.out.width; ++p) {
        std::uint8_t* to = out.row(r * taps.out.width + p);
        std::fill_n(to, channels, std::uint8_t{0});
        for (std::int64_t b = 0; b < taps.kernel_width; ++b) {
          const std::int64_t column =
              taps.columns[static_cast<std::size_t>(p * taps.kernel_width + b)];
          if (column >= 0) raise(down.data() + column * x.stride, channels, to);
        }
      }
    }
  });
}

void mean_of_codes(const QuantizedRows& x, const TapTable& taps, const PoolDivisor& divisor,
                   TensorSpan y, ExecContext& ctx) {
  const std::int64_t channels = x.columns;
  const std::int32_t zero = x.quant.qparams.zero_point + code_shift(x.quant.spec);
  constexpr std::int64_t kRows = 4;
  ctx.pool.parallel_for(y.rows(), kRows, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::int32_t> sums(static_cast<std::size_t>(channels));
    for (std::int64_t r = begin; r < end; ++r) {
      std::fill(sums.begin(), sums.end(), 0);
      std::int32_t* sum = sums.data();
      const std::int64_t inside = for_each_tap(x, taps, r, [&](const std::uint8_t* from) {
        for (std::int64_t c = 0; c < channels; ++c) sum[c] += from[c];
      });

      const std::int64_t out_y = r % taps.out.pixels() / taps.out.width;
      const auto parts = static_cast<float>(divisor(out_y, r % taps.out.width, inside));
      const float step = x.quant.qparams.scale / parts;
      const std::int32_t at_rest = static_cast<std::int32_t>(inside) * zero;
      float* to = y.row(r);
      for (std::int64_t c = 0; c < channels; ++c)
        to[c] = static_cast<float>(sum[c] - at_rest) * step;
    }
  });
}

}  // namespace quell
