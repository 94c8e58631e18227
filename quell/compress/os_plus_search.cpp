#include "quell/compress/os_plus_search.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/compress/channel_stats.h"
#include "quell/model/attention_call.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

class Search {
 public:
  Search(const OsPlusProblem& problem, ExecContext& ctx) : p_(problem), ctx_(ctx) {
    SiteActivations views{{}, p_.batches};
    for (const Tensor& x : p_.x) views.x.push_back(&x);
    stats_ = channel_stats(views, p_.include_padding, "OS+ search");
    for (std::size_t b = 0; b < p_.x.size(); ++b) {
      targets_.push_back(output(b, p_.x[b], p_.weight));
      for (std::int64_t i = 0; i < p_.x[b].rows(); ++i) tokens_ += row_counts(p_.x[b], *p_.batches[b], i) ? 1 : 0;
    }
    require(tokens_ > 0, ErrorCode::kInvalidInput, "OS+ search: no token in the calibration batches");
  }

  OsPlusResult run() {
    OsPlusResult result;
    const auto channels = static_cast<std::int64_t>(stats_.max.size());
    const double amax = std::max(0.0, static_cast<double>(*std::max_element(stats_.max.begin(), stats_.max.end())));
    const double amin = std::min(0.0, static_cast<double>(*std::min_element(stats_.min.begin(), stats_.min.end())));
    const int num = std::max(100, static_cast<int>(amax / 0.5));
    const double high = std::max(-amin, amax), step = (high - p_.floor) / num;
    for (double t = high; t >= p_.floor; t -= step) {
      result.thresholds.push_back(t);
      result.losses.push_back(loss(static_cast<float>(t)));
      if (result.best < 0 || result.losses.back() < result.losses[static_cast<std::size_t>(result.best)])
        result.best = static_cast<int>(result.losses.size()) - 1;
      ctx_.progress("search threshold", static_cast<std::int64_t>(result.losses.size()), num + 1);
      if (step <= 0) break;  // high == floor: one candidate
    }
    ctx_.progress("search threshold", num + 1, num + 1);
    result.scale =
        result.best >= 0 ? scale_at(static_cast<float>(result.thresholds[static_cast<std::size_t>(result.best)])) : ones(channels);
    return result;
  }

 private:
  static Tensor ones(std::int64_t n) {
    Tensor t = Tensor::f32({n});
    std::fill(t.f32().begin(), t.f32().end(), 1.0F);
    return t;
  }

  Tensor scale_at(float t) const {
    Tensor s = ones(static_cast<std::int64_t>(stats_.max.size()));
    for (std::size_t j = 0; j < stats_.max.size(); ++j) {
      const float up = stats_.max[j] > t ? stats_.max[j] / t : 1.0F, down = stats_.min[j] < -t ? stats_.min[j] / -t : 1.0F;
      s.f32()[j] = std::max(up, down);
    }
    return s;
  }

  double loss(float t) const {
    const Tensor scale = scale_at(t);
    Tensor w = Tensor::f32(p_.weight.shape());
    affine_columns(p_.weight, scale, TensorView(), w.span(), ctx_);
    fake_quantize_weight(w, p_.weights, w.span(), ctx_);
    ActivationQuant quant{p_.activations, {}};
    if (!quant.spec.dynamic) quant.qparams = calculate_qparams({-t, t}, quant.spec);
    double sum = 0;
    for (std::size_t b = 0; b < p_.x.size(); ++b) {
      Tensor x = Tensor::f32(p_.x[b].shape());
      inverse_affine_columns(p_.x[b], scale, TensorView(), x.span(), ctx_);
      fake_quantize_activations(x, quant, Rounding::kDivide, x.span(), ctx_);
      sum += squared_error(b, output(b, x, w));
    }
    return sum / static_cast<double>(tokens_);
  }

  /// Rows are summed apart and then in order, so that the result does not depend on the number of threads.
  double squared_error(std::size_t b, const Tensor& y) const {
    std::vector<double> rows(static_cast<std::size_t>(y.rows()));
    ctx_.pool.parallel_for(y.rows(), 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        if (!row_counts(y, *p_.batches[b], i)) continue;
        const float *got = y.row(i), *want = targets_[b].row(i);
        double sum = 0;
        for (std::int64_t j = 0, n = y.cols(); j < n; ++j) {
          const double d = static_cast<double>(got[j]) - static_cast<double>(want[j]);
          sum += d * d;
        }
        rows[static_cast<std::size_t>(i)] = sum;
      }
    });
    double total = 0;
    for (const double r : rows) total += r;
    return total;
  }

  /// f of section 4.4: attention output for q, k, v; act(gate) * up for a gated MLP; the product alone otherwise.
  Tensor output(std::size_t b, const Tensor& x, const Tensor& w) const {
    Tensor y = Tensor::f32({x.rows(), w.rows()});
    // The bias of a single linear cancels in the difference.
    const bool with_bias = p_.kind == SiteKind::kAttention || p_.kind == SiteKind::kGatedMlp;
    matmul_nt(x, w, with_bias ? p_.bias.view() : TensorView(), y.span(), ctx_);
    if (p_.kind == SiteKind::kAttention) return attention_output(b, y);
    if (p_.kind == SiteKind::kGatedMlp) return gated_output(y);
    return y;
  }

  Tensor slice_columns(const Tensor& y, std::int64_t begin, std::int64_t count) const {
    Tensor out = Tensor::f32({y.rows(), count});
    for (std::int64_t i = 0; i < y.rows(); ++i) std::copy_n(y.row(i) + begin, count, out.row(i));
    return out;
  }

  Tensor attention_output(std::size_t b, const Tensor& y) const {
    Tensor q = slice_columns(y, 0, p_.rows[0]), k = slice_columns(y, p_.rows[0], p_.rows[1]);
    const Tensor v = slice_columns(y, p_.rows[0] + p_.rows[1], p_.rows[2]);
    const AttentionSpec& a = p_.attention;
    if (p_.q_norm) normalize_heads(NormKind::kRmsNorm, p_.q_norm->weight, p_.q_norm->bias, p_.norm_eps, q, ctx_);
    if (p_.k_norm) normalize_heads(NormKind::kRmsNorm, p_.k_norm->weight, p_.k_norm->bias, p_.norm_eps, k, ctx_);
    const TokenBatch& batch = *p_.batches[b];
    AttentionCall call{.spec = a, .queries = batch, .keys = batch};
    if (!p_.positions.empty()) call.positions = p_.positions[b];
    if (!p_.position_bias.empty()) call.bias = p_.position_bias[b];
    rotate_operands(call, q, k, ctx_);
    Tensor out = Tensor::f32(q.shape());
    attention(call.shape(), q, k, v, batch.mask, out.span(), call.score_hook(q, k), nullptr, ctx_);
    return out;
  }

  Tensor gated_output(const Tensor& y) const {
    Tensor gate = slice_columns(y, 0, p_.rows[0]);
    const Tensor up = slice_columns(y, p_.rows[0], p_.rows[1]);
    activate(p_.activation, gate, gate.span(), ctx_);
    multiply(gate, up, gate.span(), ctx_);
    return gate;
  }

  const OsPlusProblem& p_;
  ExecContext& ctx_;
  ChannelStats stats_;
  std::vector<Tensor> targets_;
  std::int64_t tokens_ = 0;
};

}  // namespace

OsPlusResult search_threshold(const OsPlusProblem& problem, ExecContext& ctx) { return Search(problem, ctx).run(); }

}  // namespace quell
