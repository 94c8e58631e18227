// Pooling of images in codes: the largest code of each window, or the mean of what the codes stand
// for.
#pragma once

#include <functional>

#include "quell/ops/windows.h"
#include "quell/quant/quantized_rows.h"

namespace quell {

/// out[p, c] = the largest x[t(p), c] of the taps inside of the image; since quantizers keep the
/// order of values, that is the code of the largest value. Every window has a tap inside.
void max_of_codes(const QuantizedRows& x, const TapTable& taps, QuantizedRows& out,
                  ExecContext& ctx);

/// What the sum over the window of output pixel (y, x) is divided by, `inside` taps being of the
/// image.
using PoolDivisor =
    std::function<std::int64_t(std::int64_t y, std::int64_t x, std::int64_t inside)>;

/// y[p, c] = (sum of codes - inside * zero) * (scale / divisor), the sum exact. x: static per
/// tensor. y: f32 [images * taps.out.pixels(), C].
void mean_of_codes(const QuantizedRows& x, const TapTable& taps, const PoolDivisor& divisor,
                   TensorSpan y, ExecContext& ctx);

}  // namespace quell
