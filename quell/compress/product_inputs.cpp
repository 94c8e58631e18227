#include "quell/compress/product_inputs.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "quell/base/error.h"
#include "quell/base/log.h"
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
  const Tensor* float_x = nullptr;  ///< of the float model; null: not known
  std::shared_ptr<const ConvGeometry> geometry;

  std::vector<TensorView> inputs() const {
    std::vector<TensorView> out{x->view()};
    if (float_x) out.push_back(float_x->view());
    return out;
  }
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
      out.push_back({activations.x[i],
                     activations.float_x.empty() ? nullptr : activations.float_x[i],
                     found->second});
  return out;
}

/// sum += a b^T, for columns a and b [C, rows] of some inputs.
void add_product(const Tensor& a, const Tensor& b, Tensor& sum, ExecContext& ctx) {
  Tensor part = Tensor::uninitialized(DType::kF32, sum.shape());
  matmul_nt(a, b, TensorView(), part.span(), ctx);
  for (std::size_t i = 0; i < sum.f32().size(); ++i) sum.f32()[i] += part.f32()[i];
}

void add_columns(const Tensor& x, std::vector<double>& sums) {
  for (std::int64_t i = 0; i < x.rows(); ++i)
    for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += static_cast<double>(x.row(i)[k]);
}

/// Of moments without means, given the sums of squares with them: a column that hardly changes
/// beside its size has nothing left but the rounding of those sums, and counts as constant.
void clear_constant_columns(std::span<const double> squares, InputMoments& moments) {
  constexpr double kRounding = 1e-6;
  Tensor& gram = moments.gram;
  for (std::int64_t k = 0; k < gram.rows(); ++k) {
    const auto variance = static_cast<double>(gram.row(k)[k]);
    if (!(variance <= kRounding * squares[static_cast<std::size_t>(k)])) continue;
    for (Tensor* matrix : {&gram, &moments.missing}) {
      if (!matrix->defined()) continue;
      for (std::int64_t i = 0; i < gram.rows(); ++i) matrix->row(i)[k] = 0;
    }
    std::fill_n(gram.row(k), gram.cols(), 0.0F);
  }
}

/// Sums over the rows of what one group of a product multiplies, [rows, K] at a time.
class MomentSums {
 public:
  MomentSums(std::int64_t columns, MeanInputs means)
      : means_(means),
        gram_(Tensor::f32({columns, columns})),
        sums_(static_cast<std::size_t>(columns)),
        missing_sums_(static_cast<std::size_t>(columns)) {}

  /// `float_x`: the same rows of the float model, or null.
  void add(const Tensor& x, const Tensor* float_x, ExecContext& ctx) {
    const Tensor columns = transposed(x);
    add_product(columns, columns, gram_, ctx);
    const bool centred = means_ == MeanInputs::kTaken;
    rows_ += static_cast<double>(x.rows());
    if (centred) add_columns(x, sums_);
    if (!float_x) return;

    if (!missing_.defined()) missing_ = Tensor::f32(gram_.shape());
    Tensor lacks = Tensor::uninitialized(DType::kF32, x.shape());
    for (std::size_t i = 0; i < lacks.f32().size(); ++i)
      lacks.f32()[i] = float_x->f32()[i] - x.f32()[i];
    add_product(transposed(lacks), columns, missing_, ctx);
    if (centred) add_columns(lacks, missing_sums_);
  }

  InputMoments take() {
    if (means_ == MeanInputs::kKept || rows_ == 0) return {std::move(gram_), std::move(missing_)};

    std::vector<double> squares;
    for (std::int64_t k = 0; k < gram_.rows(); ++k)
      squares.push_back(static_cast<double>(gram_.row(k)[k]));
    take_means(gram_, sums_);
    if (missing_.defined()) take_means(missing_, missing_sums_);
    InputMoments out{std::move(gram_), std::move(missing_)};
    clear_constant_columns(squares, out);
    return out;
  }

 private:
  /// Of a sum of a^T x, given the sums of a: less rows * mean(a) mean(x).
  void take_means(Tensor& product, const std::vector<double>& of_a) const {
    for (std::size_t i = 0; i < of_a.size(); ++i)
      for (std::size_t k = 0; k < sums_.size(); ++k) {
        float& sum = product.row(static_cast<std::int64_t>(i))[k];
        sum = static_cast<float>(static_cast<double>(sum) - of_a[i] * sums_[k] / rows_);
      }
  }

  MeanInputs means_;
  double rows_ = 0;
  Tensor gram_, missing_;
  std::vector<double> sums_, missing_sums_;
};

/// Of a depthwise convolution: for all channels at once, since each has a few taps only.
class DepthwiseMoments {
 public:
  DepthwiseMoments(const ConvGeometry& geometry, std::int64_t channels, bool with_float)
      : with_float_(with_float),
        channels_(static_cast<std::size_t>(channels)),
        taps_(static_cast<std::size_t>(geometry.taps.kernel_height * geometry.taps.kernel_width)) {
    grams_.resize(taps_ * taps_ * channels_);
    sums_.resize(taps_ * channels_);
    if (!with_float) return;
    missing_.resize(grams_.size());
    missing_sums_.resize(sums_.size());
  }

  void add(const SeenImages& images, ExecContext& ctx) {
    padding_ = images.geometry->padding;
    padding_.resize(channels_);
    rows_ += static_cast<double>(images.geometry->out_rows(images.x->rows()));
    // One part a thread's chunk of channels, so that sums do not depend on their number.
    constexpr std::int64_t kChannels = 16;
    ctx.pool.parallel_for(
        static_cast<std::int64_t>(channels_), kChannels, [&](std::int64_t begin, std::int64_t end) {
          add_channels(images, static_cast<std::size_t>(begin), static_cast<std::size_t>(end));
        });
  }

  std::vector<InputMoments> take(MeanInputs means) const {
    std::vector<InputMoments> out;
    std::vector<double> squares(taps_);
    for (std::size_t c = 0; c < channels_; ++c) {
      out.push_back({mirrored(matrix(grams_, sums_, c, means)),
                     with_float_ ? matrix(missing_, missing_sums_, c, means) : Tensor()});
      if (means == MeanInputs::kKept) continue;
      for (std::size_t t = 0; t < taps_; ++t) squares[t] = grams_[(t * taps_ + t) * channels_ + c];
      clear_constant_columns(squares, out.back());
    }
    return out;
  }

 private:
  /// [taps, taps] of a channel.
  Tensor matrix(const std::vector<double>& products, const std::vector<double>& sums_of_a,
                std::size_t c, MeanInputs means) const {
    const auto k = static_cast<std::int64_t>(taps_);
    Tensor out = Tensor::f32({k, k});
    for (std::size_t a = 0; a < taps_; ++a)
      for (std::size_t b = 0; b < taps_; ++b) {
        double sum = products[(a * taps_ + b) * channels_ + c];
        if (means == MeanInputs::kTaken && rows_ > 0)
          sum -= sums_of_a[a * channels_ + c] * sums_[b * channels_ + c] / rows_;
        out.f32()[a * taps_ + b] = static_cast<float>(sum);
      }
    return out;
  }

  /// Gram matrices are summed in their upper half alone.
  static Tensor mirrored(Tensor upper) {
    for (std::int64_t a = 0; a < upper.rows(); ++a)
      for (std::int64_t b = 0; b < a; ++b) upper.row(a)[b] = upper.row(b)[a];
    return upper;
  }

  /// Sums of one row of pixels are short, and stay in f32.
  struct RowSums {
    std::vector<float> products;  ///< [tap, tap, channel]
    std::vector<float> sums;      ///< [tap, channel]

    RowSums(std::size_t taps, std::size_t channels)
        : products(taps * taps * channels), sums(taps * channels) {}
    void clear() {
      std::fill(products.begin(), products.end(), 0.0F);
      std::fill(sums.begin(), sums.end(), 0.0F);
    }
    void add_to(std::vector<double>& of_products, std::vector<double>& of_sums,
                std::size_t channels, std::size_t begin, std::size_t count) const {
      for (std::size_t i = 0; i < products.size(); ++i)
        of_products[i / count * channels + begin + i % count] += static_cast<double>(products[i]);
      for (std::size_t i = 0; i < sums.size(); ++i)
        of_sums[i / count * channels + begin + i % count] += static_cast<double>(sums[i]);
    }
  };

  void add_channels(const SeenImages& images, std::size_t begin, std::size_t end) {
    const TapTable& taps = images.geometry->taps;
    const std::int64_t num_images = images.x->rows() / taps.image.pixels();
    const std::size_t count = end - begin;
    std::vector<const float*> seen(taps_);
    std::vector<float> lacks(with_float_ ? taps_ * count : 0);
    RowSums gram(taps_, count), missing(with_float_ ? taps_ : 0, count);

    for (std::int64_t row = 0; row < num_images * taps.out.height; ++row) {
      gram.clear();
      missing.clear();
      for (std::int64_t p = 0; p < taps.out.width; ++p) {
        look(images, row, p, begin, count, seen, lacks);
        add_pixel(seen, lacks, count, gram, missing);
      }
      gram.add_to(grams_, sums_, channels_, begin, count);
      if (with_float_) missing.add_to(missing_, missing_sums_, channels_, begin, count);
    }
  }

  /// What the taps see at column `p` of a row of output pixels, and what that lacks.
  void look(const SeenImages& images, std::int64_t row, std::int64_t p, std::size_t begin,
            std::size_t count, std::vector<const float*>& seen, std::vector<float>& lacks) const {
    const TapTable& taps = images.geometry->taps;
    const std::int64_t first = row / taps.out.height * taps.image.pixels();
    for (std::size_t t = 0; t < taps_; ++t) {
      const auto tap = static_cast<std::int64_t>(t);
      const std::int64_t pixel =
          taps.pixel(row % taps.out.height, p, tap / taps.kernel_width, tap % taps.kernel_width);
      seen[t] = (pixel < 0 ? padding_.data() : images.x->row(first + pixel)) + begin;
      if (!with_float_) continue;
      const float* wanted =
          (pixel < 0 ? padding_.data() : images.float_x->row(first + pixel)) + begin;
      for (std::size_t c = 0; c < count; ++c) lacks[t * count + c] = wanted[c] - seen[t][c];
    }
  }

  void add_pixel(const std::vector<const float*>& seen, const std::vector<float>& lacks,
                 std::size_t count, RowSums& gram, RowSums& missing) const {
    for (std::size_t a = 0; a < taps_; ++a) {
      for (std::size_t c = 0; c < count; ++c) gram.sums[a * count + c] += seen[a][c];
      for (std::size_t b = a; b < taps_; ++b)
        add_products(seen[a], seen[b], count, &gram.products[(a * taps_ + b) * count]);
      if (!with_float_) continue;
      const float* of_a = &lacks[a * count];
      for (std::size_t c = 0; c < count; ++c) missing.sums[a * count + c] += of_a[c];
      for (std::size_t b = 0; b < taps_; ++b)
        add_products(of_a, seen[b], count, &missing.products[(a * taps_ + b) * count]);
    }
  }

  static void add_products(const float* a, const float* b, std::size_t count, float* sums) {
    for (std::size_t c = 0; c < count; ++c) sums[c] += a[c] * b[c];
  }

  bool with_float_;
  std::size_t channels_;
  std::size_t taps_;
  double rows_ = 0;
  std::vector<float> padding_;               ///< of what is added now
  std::vector<double> grams_, missing_;      ///< [tap, tap, channel]
  std::vector<double> sums_, missing_sums_;  ///< [tap, channel]
};

std::vector<InputMoments> convolution_moments(const ConvGeometry& geometry, std::int64_t columns,
                                              const std::vector<SeenImages>& images,
                                              MeanInputs means, ExecContext& ctx) {
  const std::int64_t channels = images.front().x->cols();
  if (geometry.groups == channels && channels > 1) {
    DepthwiseMoments moments(geometry, channels, images.front().float_x != nullptr);
    for (const SeenImages& seen : images) moments.add(seen, ctx);
    return moments.take(means);
  }

  std::vector<InputMoments> out;
  for (std::int64_t g = 0; g < geometry.groups; ++g) {
    MomentSums sums(columns, means);
    for (const SeenImages& seen : images)
      for_each_patch_block(seen.inputs(), *seen.geometry, g, ctx,
                           [&](std::span<const Tensor> patches) {
                             sums.add(patches[0], patches.size() > 1 ? &patches[1] : nullptr, ctx);
                           });
    out.push_back(sums.take());
  }
  return out;
}

Tensor counted_rows(const Tensor& x, const TokenBatch& batch) {
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < x.rows(); ++i)
    if (row_counts(x, batch, i)) rows.push_back(i);
  Tensor out =
      Tensor::uninitialized(DType::kF32, {static_cast<std::int64_t>(rows.size()), x.cols()});
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::copy_n(x.row(rows[i]), x.cols(), out.row(static_cast<std::int64_t>(i)));
  return out;
}

InputMoments linear_moments(const SiteActivations& activations, MeanInputs means,
                            ExecContext& ctx) {
  MomentSums sums(activations.x.front()->cols(), means);
  for (std::size_t b = 0; b < activations.x.size(); ++b) {
    const TokenBatch& batch = *activations.batches[b];
    const Tensor x = counted_rows(*activations.x[b], batch);
    if (x.rows() == 0) continue;
    if (activations.float_x.empty()) {
      sums.add(x, nullptr, ctx);
      continue;
    }
    const Tensor float_x = counted_rows(*activations.float_x[b], batch);
    sums.add(x, &float_x, ctx);
  }
  return sums.take();
}

/// Whether moments say anything: the diagonal of the Gram matrix is not 0.
bool has_inputs(const InputMoments& inputs, const std::string& who) {
  double sum = 0;
  for (std::int64_t k = 0; k < inputs.gram.rows(); ++k)
    sum += static_cast<double>(inputs.gram.row(k)[k]);
  require(std::isfinite(sum), ErrorCode::kNumeric, who,
          ": squares of its inputs are not finite; the model or the calibration data is "
          "damaged");
  return sum > 0;
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

const std::vector<InputMoments>& SiteMoments::of(NodeId product, MeanInputs means) {
  const auto geometry = conv_geometry(site_.model->graph, product);
  const std::pair key(geometry ? product : kNoNode, means);
  const auto found = by_product_.find(key);
  if (found != by_product_.end()) return found->second;

  std::vector<InputMoments>& out = by_product_[key];
  if (geometry)
    out = convolution_moments(*geometry, columns_of(site_, product),
                              seen_images(site_, product, activations_), means, ctx_);
  else
    out.push_back(linear_moments(activations_, means, ctx_));
  return out;
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
      for_each_patch_block(std::vector{seen.x->view()}, *seen.geometry, g, ctx,
                           [&](std::span<const Tensor> seen_by_taps) {
                             const Tensor& patches = seen_by_taps.front();
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

QTensor round_by_group(const Tensor& weight, QTensor nearest,
                       const std::vector<InputMoments>& inputs, const RoundRows& round,
                       const std::string& who, ExecContext& ctx) {
  const bool any = std::any_of(inputs.begin(), inputs.end(),
                               [&](const InputMoments& group) { return has_inputs(group, who); });
  if (!any) {
    log(LogLevel::kWarning, who +
                                ": all its inputs are 0 on the calibration data, or never change "
                                "there, which says nothing about its weights: they are rounded to "
                                "nearest");
    return nearest;
  }
  if (inputs.size() == 1) return round(weight, std::move(nearest), inputs.front(), ctx);

  // Small problems, one a group: threads take whole groups.
  const auto groups = static_cast<std::int64_t>(inputs.size());
  const std::int64_t rows = weight.rows() / groups;
  const std::int64_t columns = weight.cols();
  constexpr std::int64_t kGroups = 4;
  ctx.pool.parallel_for(groups, kGroups, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t g = begin; g < end; ++g) {
      const InputMoments& of_group = inputs[static_cast<std::size_t>(g)];
      if (!has_inputs(of_group, who)) continue;
      const std::int64_t first = g * rows;
      const TensorView w(weight.row(first), DType::kF32, {rows, columns});
      const QTensor q = round(w, rows_of(nearest, first, first + rows), of_group, ctx);
      std::copy_n(q.codes.as<std::int16_t>().data(), q.codes.numel(),
                  nearest.codes.as<std::int16_t>().data() + first * columns);
    }
  });
  return nearest;
}

}  // namespace quell
