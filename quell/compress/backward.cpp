#include "quell/compress/backward.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/ops/elementwise.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

Tensor transposed(const Tensor& w) {
  Tensor out = Tensor::uninitialized(DType::kF32, {w.cols(), w.rows()});
  for (std::int64_t i = 0; i < w.rows(); ++i)
    for (std::int64_t j = 0; j < w.cols(); ++j) out.row(j)[i] = w.row(i)[j];
  return out;
}

/// One sequence and head, gradients of q, k and v added up in place.
struct HeadBackward {
  std::int64_t queries, keys, dim;
  std::int64_t q_ld,
      kv_ld;  ///< distance of rows: q, its gradient and that of the output; k, v and theirs
  float scale;
  const std::optional<ActivationQuant>& probs_quant;

  /// `scores` [queries, keys]: -infinity where a query does not see a key.
  StepGradient run(const float* k, const float* v, const float* q, const float* g,
                   std::span<float> scores, float* dq, float* dk, float* dv) const {
    StepGradient steps;
    std::vector<float> probs(static_cast<std::size_t>(keys)), dp(probs.size());
    for (std::int64_t i = 0; i < queries; ++i) {
      const std::span<float> p(scores.data() + i * keys, static_cast<std::size_t>(keys));
      const float most = *std::max_element(p.begin(), p.end());
      const bool blind =
          std::isinf(most);  // sees no key: spreads evenly over all, whatever q and k are
      double sum = 0;
      for (float& s : p) sum += static_cast<double>(s = blind ? 1.0F : std::exp(s - most));
      for (float& s : p) s = static_cast<float>(static_cast<double>(s) / sum);
      std::copy(p.begin(), p.end(), probs.begin());
      if (probs_quant)
        fake_quantize(p, probs_quant->qparams, probs_quant->spec, Rounding::kDivide, probs);
      const float* gi = g + i * q_ld;
      for (std::int64_t j = 0; j < keys; ++j) {
        float dot = 0;
        for (std::int64_t d = 0; d < dim; ++d) {
          dot += gi[d] * v[j * kv_ld + d];
          dv[j * kv_ld + d] += probs[static_cast<std::size_t>(j)] * gi[d];
        }
        dp[static_cast<std::size_t>(j)] = dot;
      }
      if (probs_quant)
        fake_quantize_backward(p, probs_quant->qparams, probs_quant->spec, dp, steps);
      double mean = 0;
      for (std::size_t j = 0; j < p.size(); ++j)
        mean += static_cast<double>(p[j]) * static_cast<double>(dp[j]);
      for (std::int64_t j = 0; j < keys && !blind; ++j) {
        const auto at = static_cast<std::size_t>(j);
        const float ds = p[at] * (dp[at] - static_cast<float>(mean)) * scale;
        for (std::int64_t d = 0; d < dim; ++d) {
          dq[i * q_ld + d] += ds * k[j * kv_ld + d];
          dk[j * kv_ld + d] += ds * q[i * q_ld + d];
        }
      }
    }
    return steps;
  }
};

}  // namespace

Backward::Backward(const Model& model, const Weights& weights, Executor& executor, ExecContext& ctx)
    : model_(model),
      weights_(weights),
      executor_(executor),
      ctx_(ctx),
      gradients_(model.graph.producer.size()) {}

/// Nothing in front of embeddings has a quantizer.
bool Backward::matters(ValueId value) const {
  const StepKind kind = node(model_.graph.producer[static_cast<std::size_t>(value)]).kind;
  return kind != StepKind::kEmbedding && kind != StepKind::kTable && kind != StepKind::kPatches;
}

void Backward::add(ValueId value, Tensor gradient) {
  Tensor& sum = gradients_[static_cast<std::size_t>(value)];
  if (!sum.defined())
    sum = std::move(gradient);
  else
    quell::add(sum, gradient, sum.span(), ctx_);
}

void Backward::through_quantizer(ValueId value, Tensor& gradient) {
  const auto quant = model_.input_quant.find(value);
  if (quant == model_.input_quant.end() || !is_static_per_tensor(quant->second)) return;
  StepGradient found;
  fake_quantize_backward(executor_.value(value).f32(), quant->second.qparams, quant->second.spec,
                         gradient.f32(), found);
  at_values[value] += found * step_gradient_factor(gradient.numel(), quant->second.spec);
}

/// What readers other than linears see: quantized where residuals are, then restored.
void Backward::into_operand(ValueId value, Tensor gradient) {
  if (const auto affine = model_.restore.find(value); affine != model_.restore.end())
    affine_columns(gradient, affine->second.scale, TensorView(), gradient.span(), ctx_);
  if (model_.residual_after_quant) through_quantizer(value, gradient);
  add(value, std::move(gradient));
}

void Backward::seed(ValueId value, Tensor gradient) { into_operand(value, std::move(gradient)); }

void Backward::run() {
  for (int n = static_cast<int>(model_.graph.nodes.size()) - 1; n >= 0; --n) {
    const ValueId out = node(n).out;
    Tensor gradient = std::move(gradients_[static_cast<std::size_t>(out)]);
    if (!gradient.defined() || !matters(out)) continue;
    if (const auto affine = model_.explicit_affine.find(out);
        affine != model_.explicit_affine.end())
      inverse_affine_columns(gradient, affine->second.scale, TensorView(), gradient.span(), ctx_);
    back(n, std::move(gradient));
  }
}

void Backward::back(int n, Tensor gradient) {
  const Node& at = node(n);
  switch (at.kind) {
    case StepKind::kLinear: return back_linear(n, gradient);
    case StepKind::kNorm: {
      Tensor storage;
      return back_norm(n, std::move(gradient), executor_.operand(at.in[0], storage));
    }
    case StepKind::kHeadNorm: {
      const Shape heads{gradient.numel() / model_.param_of(n).weight.numel(),
                        model_.param_of(n).weight.numel()};
      Tensor x = executor_.value(at.in[0]).clone();
      x.reshape(heads);
      gradient.reshape(heads);
      return back_norm(n, std::move(gradient), x);
    }
    case StepKind::kActivation: return back_activation(n, std::move(gradient));
    case StepKind::kAttention: return back_attention(n, gradient);
    case StepKind::kSelectFirst:
    case StepKind::kSelectColumn: return back_selection(n, gradient);
    case StepKind::kAdd:
      into_operand(at.in[0], gradient.clone());
      return into_operand(at.in[1], std::move(gradient));
    case StepKind::kMultiply: {
      Tensor storage_a, storage_b, other = Tensor::f32(gradient.shape());
      const TensorView a = executor_.operand(at.in[0], storage_a),
                       b = executor_.operand(at.in[1], storage_b);
      multiply(gradient, b, other.span(), ctx_);
      into_operand(at.in[0], std::move(other));
      multiply(gradient, a, gradient.span(), ctx_);
      return into_operand(at.in[1], std::move(gradient));
    }
    case StepKind::kScale:
      for (float& g : gradient.f32()) g *= at.number;
      return into_operand(at.in[0], std::move(gradient));
    case StepKind::kMaskRows:
      for (std::int64_t i = 0; i < gradient.rows(); ++i)
        if (executor_.batch_of(at.out).mask[static_cast<std::size_t>(i)] == 0)
          std::fill_n(gradient.row(i), gradient.cols(), 0.0F);
      return into_operand(at.in[0], std::move(gradient));
    default: break;
  }
  throw Error(ErrorCode::kUnsupported, str(model_.node_name(n), " of ", model_.spec.model_type,
                                           " has no gradient here; leave learned steps out"));
}

void Backward::back_linear(int n, const Tensor& gradient) {
  const ValueId in = node(n).in[0];
  const Param& p = model_.param_of(n);
  const auto used =
      weights_.find(static_cast<std::size_t>(model_.node_param[static_cast<std::size_t>(n)]));
  const Tensor weight = transposed(used == weights_.end() ? model_.weight_of(p) : used->second);
  Tensor out = Tensor::uninitialized(DType::kF32, {gradient.rows(), weight.rows()});
  matmul_nt(gradient, weight, TensorView(), out.span(), ctx_);
  if (p.quantized) through_quantizer(in, out);
  add(in, std::move(out));
}

/// y = xh w + b with xh = (x - mean) / sigma: dx = (d - mean(d) - xh mean(d xh)) / sigma with d =
/// dy w; RMSNorm without means.
void Backward::back_norm(int n, Tensor gradient, const TensorView& x) {
  const Param& p = model_.param_of(n);
  const bool layer = model_.spec.norm_kind == NormKind::kLayerNorm;
  ctx_.pool.parallel_for(x.rows(), 16, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t columns = x.cols();
    const auto count = static_cast<double>(columns);
    for (std::int64_t i = begin; i < end; ++i) {
      const float* row = x.row(i);
      float* g = gradient.row(i);
      double mean = 0, square = 0, sum = 0, dot = 0;
      for (std::int64_t j = 0; j < columns && layer; ++j)
        mean += static_cast<double>(row[j]) / count;
      for (std::int64_t j = 0; j < columns; ++j)
        square += std::pow(static_cast<double>(row[j]) - mean, 2) / count;
      const double sigma = std::sqrt(square + model_.spec.norm_eps);
      for (std::int64_t j = 0; j < columns; ++j) {
        if (p.weight.defined()) g[j] *= p.weight.f32()[static_cast<std::size_t>(j)];
        sum += static_cast<double>(g[j]) / count;
        dot += static_cast<double>(g[j]) * (static_cast<double>(row[j]) - mean) / sigma / count;
      }
      for (std::int64_t j = 0; j < columns; ++j) {
        const double scaled = (static_cast<double>(row[j]) - mean) / sigma;
        g[j] = static_cast<float>((static_cast<double>(g[j]) - (layer ? sum : 0.0) - scaled * dot) /
                                  sigma);
      }
    }
  });
  gradient.reshape(executor_.value(node(n).in[0]).shape());
  into_operand(node(n).in[0], std::move(gradient));
}

void Backward::back_activation(int n, Tensor gradient) {
  Tensor storage;
  const TensorView x = executor_.operand(node(n).in[0], storage);
  ctx_.pool.parallel_for(x.rows(), 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t j = 0; j < x.cols(); ++j)
        gradient.row(i)[j] *= static_cast<float>(
            activation_derivative(node(n).activation, static_cast<double>(x.row(i)[j])));
  });
  into_operand(node(n).in[0], std::move(gradient));
}

void Backward::back_selection(int n, const Tensor& gradient) {
  const Node& at = node(n);
  const TokenBatch& batch = executor_.batch_of(at.out);
  Tensor out = Tensor::f32(executor_.value(at.in[0]).shape());
  for (std::int64_t i = 0; i < gradient.rows(); ++i)
    if (at.kind == StepKind::kSelectFirst)
      std::copy_n(gradient.row(i), gradient.cols(), out.row(batch.row_begin(i)));
    else
      out.row(i)[static_cast<std::int64_t>(at.number)] = gradient.row(i)[0];
  into_operand(at.in[0], std::move(out));
}

void Backward::back_attention(int n, const Tensor& gradient) {
  const Node& at = node(n);
  const AttentionCall call = executor_.attention_call(n);
  const AttentionShape shape = call.shape();
  const AttentionSpec& spec = call.spec;
  require(!call.relative_query && shape.soft_cap == 0.0F, ErrorCode::kUnsupported,
          model_.node_name(n), " of ", model_.spec.model_type,
          " has no gradient here; leave learned steps out");
  static const AttentionQuant kNone;
  const auto found = model_.attention_quant.find(n);
  const AttentionQuant& quant = found == model_.attention_quant.end() ? kNone : found->second;
  Tensor raw[3], seen[3], grads[3];
  const auto points = quant.points();
  const bool scaled_query = found != model_.attention_quant.end() && spec.quantize_scaled_query;
  for (std::size_t i = 0; i < 3; ++i) raw[i] = executor_.value(at.in[i]).clone();
  rotate_operands(call, raw[0], raw[1], ctx_);
  for (std::size_t i = 0; i < 3; ++i) {
    if (i == 0 && scaled_query)
      for (float& q : raw[0].f32()) q *= spec.scale;
    seen[i] = raw[i].clone();
    if (*points[i])
      fake_quantize_activations(raw[i], **points[i], Rounding::kDivide, seen[i].span(), ctx_);
    grads[i] = Tensor::f32(raw[i].shape());
  }
  const ProbsHook bias = call.score_hook(raw[0], raw[1]);
  const std::int64_t heads = shape.num_heads, groups = shape.num_kv_heads, dim = shape.head_dim;
  const auto blocks = groups * static_cast<std::int64_t>(shape.sequences.size());
  std::vector<StepGradient> probs(static_cast<std::size_t>(blocks));
  std::int64_t numel = 0;
  for (const SequenceSpan& s : shape.sequences) numel += heads * s.q_count * s.k_count;
  // The heads that read one head of keys and values add to the same gradients: one thread's work.
  ctx_.pool.parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      for (std::int64_t of_group = 0; of_group < heads / groups; ++of_group) {
        const SequenceSpan& s = shape.sequences[static_cast<std::size_t>(b / groups)];
        const std::int64_t group = b % groups, h = group * (heads / groups) + of_group;
        const auto query = [&](auto& t, std::int64_t i) { return t.row(s.q_begin + i) + h * dim; };
        const auto key = [&](auto& t, std::int64_t j) {
          return t.row(s.k_begin + j) + group * dim;
        };
        const HeadBackward head{s.q_count,   s.k_count,    dim,
                                heads * dim, groups * dim, scaled_query ? 1.0F : shape.scale,
                                quant.probs};
        std::vector<float> scores(static_cast<std::size_t>(s.q_count * s.k_count), -INFINITY);
        for (std::int64_t i = 0; i < s.q_count; ++i)
          for (std::int64_t last = shape.last_key(s, i), j = shape.first_key(last); j < last; ++j) {
            if (call.keys.mask[static_cast<std::size_t>(s.k_begin + j)] == 0) continue;
            float dot = 0;
            for (std::int64_t d = 0; d < dim; ++d) dot += query(seen[0], i)[d] * key(seen[1], j)[d];
            scores[static_cast<std::size_t>(i * s.k_count + j)] = dot * head.scale;
          }
        if (bias) bias(b / groups * heads + h, scores);
        probs[static_cast<std::size_t>(b)] +=
            head.run(key(seen[1], 0), key(seen[2], 0), query(seen[0], 0), query(gradient, 0),
                     scores, query(grads[0], 0), key(grads[1], 0), key(grads[2], 0));
      }
  });
  if (quant.probs)
    for (const StepGradient& g : probs)
      at_points[{n, 3}] += g * step_gradient_factor(numel, quant.probs->spec);
  for (std::size_t i = 0; i < 3; ++i)
    if (const auto& point = *points[i]; point && !point->spec.dynamic) {
      StepGradient g;
      fake_quantize_backward(raw[i].f32(), point->qparams, point->spec, grads[i].f32(), g);
      at_points[{n, static_cast<int>(i)}] +=
          g * step_gradient_factor(grads[i].numel(), point->spec);
    }
  if (scaled_query)
    for (float& q : grads[0].f32()) q *= spec.scale;
  if (!spec.rotary_inv_freq.empty()) {  // the transposed rotation turns the other way
    RotaryTable back =
        make_rotary_table(call.positions, spec.rotary_inv_freq, spec.rotary_amplitude, ctx_);
    for (float& sine : back.sine.f32()) sine = -sine;
    for (Tensor* g : {&grads[0], &grads[1]}) rotate(g->span(), dim, back, ctx_);
  }
  for (std::size_t i = 0; i < 3; ++i) add(at.in[i], std::move(grads[i]));
}

}  // namespace quell
