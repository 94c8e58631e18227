// Convolutions of images whose pixels are rows, in f32: a gather of rows in front of a product of
// matrices; depthwise ones by themselves.
#pragma once

#include <span>

#include "quell/base/exec_context.h"
#include "quell/ops/windows.h"
#include "quell/tensor/tensor.h"

namespace quell {

/// y[b, p, o] = bias[o] + sum over taps t and channels i of o's group of w[o, t, i] x[b, t(p), i].
/// x: [images * taps.image.pixels(), I], w: [O, taps * I / groups], y: [images * taps.out.pixels(),
/// O]. `padding`: what taps outside see, [I]; empty: 0. Sums do not depend on the number of
/// threads.
void convolve(const TensorView& x, const TapTable& taps, const TensorView& w,
              const TensorView& bias, std::int64_t groups, std::span<const float> padding,
              TensorSpan y, ExecContext& ctx);

}  // namespace quell
