#include "quell/compress/product_inputs.h"

#include <algorithm>

#include "quell/compress/channel_stats.h"
#include "quell/graph/forms.h"
#include "quell/graph/image_ops.h"
#include "quell/ops/linear.h"

namespace quell {
namespace {

std::int64_t columns_of(const Site& site, NodeId product) {
  return site.model->param_of(product).weight.cols();
}

/// What the weight of a convolution sees: values of its own images, which differ in size where
/// several convolutions share it. Those that have other groups than `product` are left out.
struct SeenImages {
  const Tensor* x = nullptr;
  std::shared_ptr<const ConvGeometry> geometry;
};

std::vector<SeenImages> seen_images(const Site& site, NodeId product,
                                    const SiteActivations& activations) {
  const Graph& graph = site.model->graph;
  const std::int64_t groups = conv_geometry(graph, product)->groups;
  std::map<ValueId, std::shared_ptr<const ConvGeometry>> geometries;
  for (const NodeId user : graph.users(graph.node(product).param))
    geometries.emplace(base_of(graph, graph.node(user).in[0]), conv_geometry(graph, user));

  std::vector<SeenImages> out;
  for (std::size_t i = 0; i < activations.x.size(); ++i)
    if (const auto found = geometries.find(activations.values.at(i));
        found != geometries.end() && found->second->groups == groups)
      out.push_back({activations.x[i], found->second});
  return out;
}

/// Of a depthwise convolution: for all channels at once, since each has a few taps only.
class DepthwiseGrams {
 public:
  DepthwiseGrams(const ConvGeometry& geometry, std::int64_t channels)
      : channels_(static_cast<std::size_t>(channels)),
        taps_(static_cast<std::size_t>(geometry.taps.kernel_height * geometry.taps.kernel_width)) {
    sums_.resize(taps_ * taps_ * channels_);
  }

  void add(const Tensor& x, const ConvGeometry& geometry, ExecContext& ctx) {
    padding_ = geometry.padding;
    padding_.resize(channels_);
    // One part a thread's chunk of channels, so that sums do not depend on their number.
    constexpr std::int64_t kChannels = 16;
    ctx.pool.parallel_for(static_cast<std::int64_t>(channels_), kChannels,
                          [&](std::int64_t begin, std::int64_t end) {
                            add_channels(x, geometry.taps, static_cast<std::size_t>(begin),
                                         static_cast<std::size_t>(end));
                          });
  }

  std::vector<Tensor> take() const {
    std::vector<Tensor> out;
    const auto k = static_cast<std::int64_t>(taps_);
    for (std::size_t c = 0; c < channels_; ++c) {
      Tensor& gram = out.emplace_back(Tensor::f32({k, k}));
      for (std::size_t a = 0; a < taps_; ++a)
        for (std::size_t b = 0; b < taps_; ++b) {
          const std::size_t pair = std::min(a, b) * taps_ + std::max(a, b);
          gram.f32()[a * taps_ + b] = static_cast<float>(sums_[pair * channels_ + c]);
        }
    }
    return out;
  }

 private:
  void add_channels(const Tensor& x, const TapTable& taps, std::size_t begin, std::size_t end) {
    const std::int64_t images = x.rows() / taps.image.pixels();
    const std::size_t count = end - begin;
    std::vector<const float*> seen(taps_);
    std::vector<float> row_sums(taps_ * taps_ * count);  // of one row of pixels: short sums in f32

    for (std::int64_t row = 0; row < images * taps.out.height; ++row) {
      const std::int64_t image = row / taps.out.height;
      std::fill(row_sums.begin(), row_sums.end(), 0.0F);
      for (std::int64_t p = 0; p < taps.out.width; ++p) {
        for (std::size_t t = 0; t < taps_; ++t) {
          const auto tap = static_cast<std::int64_t>(t);
          const std::int64_t pixel = taps.pixel(row % taps.out.height, p, tap / taps.kernel_width,
                                                tap % taps.kernel_width);
          seen[t] = pixel < 0 ? padding_.data() : x.row(image * taps.image.pixels() + pixel);
        }
        for (std::size_t a = 0; a < taps_; ++a)
          for (std::size_t b = a; b < taps_; ++b) {
            float* sum = row_sums.data() + (a * taps_ + b) * count;
            const float* of_a = seen[a] + begin;
            const float* of_b = seen[b] + begin;
            for (std::size_t c = 0; c < count; ++c) sum[c] += of_a[c] * of_b[c];
          }
      }
      for (std::size_t pair = 0; pair < taps_ * taps_; ++pair)
        for (std::size_t c = 0; c < count; ++c)
          sums_[pair * channels_ + begin + c] += static_cast<double>(row_sums[pair * count + c]);
    }
  }

  std::size_t channels_;
  std::size_t taps_;
  std::vector<float> padding_;  ///< of what is added now
  std::vector<double> sums_;    ///< [tap, tap, channel], the first tap not behind the second
};

std::vector<Tensor> convolution_grams(const ConvGeometry& geometry, std::int64_t columns,
                                      const std::vector<SeenImages>& images, ExecContext& ctx) {
  const std::int64_t channels = images.front().x->cols();
  if (geometry.groups == channels && channels > 1) {
    DepthwiseGrams grams(geometry, channels);
    for (const SeenImages& seen : images) grams.add(*seen.x, *seen.geometry, ctx);
    return grams.take();
  }

  std::vector<Tensor> grams;
  for (std::int64_t g = 0; g < geometry.groups; ++g) {
    Tensor& sum = grams.emplace_back(Tensor::f32({columns, columns}));
    for (const SeenImages& seen : images)
      for_each_patch_block(*seen.x, *seen.geometry, g, ctx,
                           [&](const Tensor& patches) { add_gram(transposed(patches), sum, ctx); });
  }
  return grams;
}

/// Rows [begin, end) of codes, with their steps.
QTensor rows_of(const QTensor& q, std::int64_t begin, std::int64_t end) {
  const std::int64_t rows = q.codes.rows();
  const std::int64_t columns = q.codes.cols();
  const std::int64_t steps = q.qparams.scale.numel();
  const std::int64_t steps_a_row = steps == 1 ? 0 : steps / rows;
  const std::int64_t count = steps == 1 ? 1 : (end - begin) * steps_a_row;
  QTensor out{q.spec,
              {Tensor::f32({count}), Tensor(DType::kI32, {count})},
              Tensor(DType::kI16, {end - begin, columns})};
  std::copy_n(q.codes.as<std::int16_t>().data() + begin * columns, out.codes.numel(),
              out.codes.as<std::int16_t>().data());
  std::copy_n(q.qparams.scale.f32().data() + begin * steps_a_row, count,
              out.qparams.scale.f32().data());
  std::copy_n(q.qparams.zero_point.as<std::int32_t>().data() + begin * steps_a_row, count,
              out.qparams.zero_point.as<std::int32_t>().data());
  return out;
}

}  // namespace

const std::vector<Tensor>& SiteGrams::of(NodeId product) {
  const auto geometry = conv_geometry(site_.model->graph, product);
  const NodeId key = geometry ? product : kNoNode;
  const auto found = by_product_.find(key);
  if (found != by_product_.end()) return found->second;

  std::vector<Tensor>& grams = by_product_[key];
  if (geometry)
    grams = convolution_grams(*geometry, columns_of(site_, product),
                              seen_images(site_, product, activations_), ctx_);
  else
    grams.push_back(gram_matrix(activations_, ctx_));
  return grams;
}

std::vector<float> mean_squares(const Site& site, NodeId product,
                                const SiteActivations& activations, ExecContext& ctx) {
  const auto geometry = conv_geometry(site.model->graph, product);
  if (!geometry) return mean_squares(activations);

  // Of each channel of each tap; groups of a convolution are averaged.
  const std::int64_t columns = columns_of(site, product);
  std::vector<double> sums(static_cast<std::size_t>(columns));
  double rows = 0;
  const std::vector<SeenImages> images = seen_images(site, product, activations);
  for (std::int64_t g = 0; g < geometry->groups; ++g)
    for (const SeenImages& seen : images)
      for_each_patch_block(*seen.x, *seen.geometry, g, ctx, [&](const Tensor& patches) {
        rows += static_cast<double>(patches.rows());
        for (std::int64_t i = 0; i < patches.rows(); ++i)
          for (std::size_t k = 0; k < sums.size(); ++k) {
            const auto v = static_cast<double>(patches.row(i)[k]);
            sums[k] += v * v;
          }
      });

  std::vector<float> out;
  for (const double s : sums) out.push_back(static_cast<float>(s / std::max(rows, 1.0)));
  return out;
}

QTensor round_by_group(const Tensor& weight, QTensor nearest, const std::vector<Tensor>& grams,
                       const RoundRows& round, const std::string& who, ExecContext& ctx) {
  if (!any_has_inputs(grams, who)) return nearest;
  if (grams.size() == 1) return round(weight, std::move(nearest), grams.front(), ctx);

  // Small problems, one a group: threads take whole groups.
  const auto groups = static_cast<std::int64_t>(grams.size());
  const std::int64_t rows = weight.rows() / groups;
  const std::int64_t columns = weight.cols();
  constexpr std::int64_t kGroups = 4;
  ctx.pool.parallel_for(groups, kGroups, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t g = begin; g < end; ++g) {
      const Tensor& gram = grams[static_cast<std::size_t>(g)];
      if (!has_inputs(gram, who)) continue;
      const std::int64_t first = g * rows;
      const TensorView w(weight.row(first), DType::kF32, {rows, columns});
      const QTensor q = round(w, rows_of(nearest, first, first + rows), gram, ctx);
      std::copy_n(q.codes.as<std::int16_t>().data(), q.codes.numel(),
                  nearest.codes.as<std::int16_t>().data() + first * columns);
    }
  });
  return nearest;
}

}  // namespace quell
