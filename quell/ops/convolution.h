// Convolutions of images whose pixels are rows, in f32: a gather of rows in front of a product of
// matrices; depthwise ones by themselves.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "quell/base/exec_context.h"
#include "quell/ops/linear.h"
#include "quell/ops/windows.h"
#include "quell/tensor/tensor.h"

namespace quell {

/// y[b, p, o] = bias[o] + sum over taps t and channels i of o's group of w[o, t, i] x[b, t(p), i].
/// x: [images * image.pixels(), I], w: [O, taps * I / groups], y: [images * out.pixels(), O]. Sums
/// do not depend on the number of threads.
void convolve(const TensorView& x, const ConvGeometry& geometry, const TensorView& w,
              const TensorView& bias, TensorSpan y, ExecContext& ctx);

/// What the taps of one group see, block by block: `see` gets f32 [rows, taps * I / groups] of each
/// input, valid until it returns. The rows of all blocks are those of the output, in order.
void for_each_patch_block(std::span<const TensorView> inputs, const ConvGeometry& geometry,
                          std::int64_t group, ExecContext& ctx,
                          const std::function<void(std::span<const Tensor> patches)>& see);

/// x w^T + bias, or the convolution where there is a geometry.
void compute_product(const TensorView& x, const TensorView& w, const TensorView& bias,
                     const ConvGeometry* geometry, TensorSpan y, ExecContext& ctx);

/// A convolution in f32 behind the call of linears. Borrows weight and bias; `bias` may be
/// undefined.
class FloatConvolution final : public LinearOp {
 public:
  FloatConvolution(TensorView weight, TensorView bias, std::shared_ptr<const ConvGeometry> geometry)
      : weight_(std::move(weight)), bias_(std::move(bias)), geometry_(std::move(geometry)) {}
  void forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const override {
    convolve(x, *geometry_, weight_, bias_, y, ctx);
  }
  std::int64_t out_rows(std::int64_t rows) const override { return geometry_->out_rows(rows); }
  std::string describe() const override { return "convolution in f32"; }

 private:
  TensorView weight_;
  TensorView bias_;
  std::shared_ptr<const ConvGeometry> geometry_;
};

}  // namespace quell
