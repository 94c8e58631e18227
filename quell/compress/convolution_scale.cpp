#include "quell/compress/convolution_scale.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quell/compress/channel_stats.h"
#include "quell/graph/image_ops.h"
#include "quell/ops/elementwise.h"
#include "quell/quant/quantize.h"
#include "quell/quant/quantized_linear.h"

namespace quell {
namespace {

/// One product of the site, with what it computes in floats.
struct Wanted {
  const Param* param = nullptr;
  ColumnChannels channels;
  std::shared_ptr<const ConvGeometry> geometry;
  Tensor output;
};

/// The first images of the first batch: as many as make so many rows, at least one.
TensorView some_images(const Site& site, const Tensor& x) {
  constexpr std::int64_t kRows = std::int64_t{1} << 14;
  const RowSpace& space = site.model->graph.value(site.value()).type.rows;
  const std::int64_t pixels = space.kind == RowSpace::Kind::kImage ? space.height * space.width : 1;
  const std::int64_t images = std::max<std::int64_t>(1, kRows / pixels);
  return {x.view().raw(), x.dtype(), {std::min(x.rows(), images * pixels), x.cols()}};
}

class ScaleTrials {
 public:
  ScaleTrials(const Site& site, const TensorView& x, const QuantSpec& weights,
              const QuantSpec& input, ExecContext& ctx)
      : x_(x), weights_(weights), input_(input), ctx_(ctx) {
    const Graph& graph = site.model->graph;
    for (const int n : site.linears) {
      const Param& p = site.model->param_of(n);
      Wanted& wanted = wanted_.emplace_back(
          Wanted{&p, column_channels(graph.node(n), p.weight), conv_geometry(graph, n), {}});
      wanted.output = product(wanted, [&](TensorSpan y) {
        compute_product(x_, p.weight, p.bias, wanted.geometry.get(), y, ctx_);
      });
    }
  }

  double loss_of(const Tensor& scale) const {
    Tensor scaled = Tensor::uninitialized(DType::kF32, x_.shape());
    inverse_affine_columns(x_, scale, Tensor(), scaled.span(), ctx_);
    Range range;
    for (const float v : scaled.f32()) range = {std::min(range.min, v), std::max(range.max, v)};
    const ActivationQuant quant{input_, calculate_qparams(range, input_)};

    double loss = 0;
    for (const Wanted& wanted : wanted_) {
      Tensor weight = wanted.param->weight.clone();
      scale_columns(wanted.channels, scale.f32(), weight.span());
      const auto quantized =
          make_fake_quantized_product(quantize_weight(weight, weights_), wanted.param->bias, quant,
                                      Rounding::kReciprocal, wanted.geometry);
      const Tensor y =
          product(wanted, [&](TensorSpan to) { quantized->forward(scaled, to, ctx_); });
      for (std::size_t i = 0; i < y.f32().size(); ++i) {
        const double d =
            static_cast<double>(y.f32()[i]) - static_cast<double>(wanted.output.f32()[i]);
        loss += d * d;
      }
    }
    return loss;
  }

 private:
  template <typename Compute>
  Tensor product(const Wanted& wanted, const Compute& compute) const {
    const std::int64_t rows = wanted.geometry ? wanted.geometry->out_rows(x_.rows()) : x_.rows();
    Tensor y = Tensor::uninitialized(DType::kF32, {rows, wanted.param->weight.rows()});
    compute(y.span());
    return y;
  }

  TensorView x_;
  QuantSpec weights_;
  QuantSpec input_;
  ExecContext& ctx_;
  std::vector<Wanted> wanted_;
};

}  // namespace

Tensor search_convolution_scale(const Site& site, const SiteActivations& activations,
                                const QuantSpec& weights, const QuantSpec& input,
                                ExecContext& ctx) {
  constexpr int kThresholds = 20;
  const ChannelStats stats = channel_stats(activations, false, site.name);
  std::vector<float> reach;
  for (std::size_t c = 0; c < stats.max.size(); ++c)
    reach.push_back(std::max(stats.max[c], -stats.min[c]));
  const float largest = *std::max_element(reach.begin(), reach.end());

  const ScaleTrials search(site, some_images(site, *activations.x.front()), weights, input, ctx);
  Tensor best = Tensor::f32({static_cast<std::int64_t>(reach.size())});
  std::fill(best.f32().begin(), best.f32().end(), 1.0F);
  if (largest <= 0) return best;

  double least = search.loss_of(best);
  for (int k = kThresholds - 1; k > 0; --k) {
    const float threshold = largest * static_cast<float>(k) / kThresholds;
    Tensor scale = Tensor::f32(best.shape());
    for (std::size_t c = 0; c < reach.size(); ++c)
      scale.f32()[c] = std::max(1.0F, reach[c] / threshold);
    const double loss = search.loss_of(scale);
    if (loss >= least) continue;
    least = loss;
    best = std::move(scale);
  }
  return best;
}

}  // namespace quell
