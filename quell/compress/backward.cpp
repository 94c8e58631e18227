#include "quell/compress/backward.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/graph/forms.h"
#include "quell/ops/elementwise.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

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

/// A node on its way back: its operands as the pass in front read them, gradients to where its op
/// sends them.
class Call final : public GradientCall {
 public:
  Call(Backward& backward, const Executor& executor, const Node& node, Tensor gradient)
      : backward_(backward),
        executor_(executor),
        node_(node),
        gradient_(std::move(gradient)),
        storage_(node.in.size()) {}
  const Node& node() const override { return node_; }
  ExecContext& ctx() const override { return executor_.ctx(); }
  TensorView in(std::size_t i) override { return executor_.read(node_, i, storage_[i]); }
  const Tensor& weight() const override { return backward_.weight(node_); }
  const Tensor& bias() const override { return executor_.bias(node_); }
  const Tensor& vector(std::size_t i) const override { return executor_.vector(node_, i); }
  RowSpace rows(std::size_t i) const override {
    return executor_.graph().value(node_.in[i]).type.rows;
  }
  const TokenBatch& tokens() const override { return executor_.tokens(node_.place.stack); }
  const TokenBatch& first_tokens() const override { return executor_.tokens(0); }
  const Tensor& gradient() const override { return gradient_; }
  Tensor take_gradient() override { return std::move(gradient_); }
  void add(std::size_t i, Tensor gradient) override {
    backward_.add_operand(node_, i, std::move(gradient));
  }

 private:
  Backward& backward_;
  const Executor& executor_;
  const Node& node_;
  Tensor gradient_;
  std::vector<Tensor> storage_;  ///< by operand
};

}  // namespace

Backward::Backward(const Model& model, const Weights& weights, Executor& executor, ExecContext& ctx)
    : model_(model),
      weights_(weights),
      executor_(executor),
      ctx_(ctx),
      gradients_(static_cast<std::size_t>(model.graph.num_values())) {}

/// Nothing in front of embeddings has a quantizer.
bool Backward::matters(ValueId value) const {
  if (model_.graph.producer(value) == kNoNode) return false;
  const Node& source = model_.graph.producer_of(value);
  return !source.is(op_embedding) && !source.is(op_table) && !source.is(op_patches);
}

const Tensor& Backward::weight(const Node& node) const {
  const auto used = weights_.find(static_cast<std::size_t>(node.param));
  return used == weights_.end() ? model_.weight_of(model_.param(node.param)) : used->second;
}

void Backward::add(ValueId value, Tensor gradient) {
  Tensor& sum = gradients_[static_cast<std::size_t>(value)];
  if (!sum.defined())
    sum = std::move(gradient);
  else
    quell::add(sum, gradient, sum.span(), ctx_);
}

void Backward::through_quantizer(ValueId value, Tensor& gradient) {
  const ActivationQuant* quant = executor_.input_quant(value);
  if (!quant || !is_static_per_tensor(*quant)) return;
  StepGradient found;
  fake_quantize_backward(executor_.value(value).f32(), quant->qparams, quant->spec, gradient.f32(),
                         found);
  at_values[base_of(model_.graph, value)] +=
      found * step_gradient_factor(gradient.numel(), quant->spec);
}

/// Through the views between what was read and what was computed.
void Backward::into_operand(ValueId value, Tensor gradient) {
  const Graph& graph = model_.graph;
  for (; graph.producer(value) != kNoNode && graph.producer_of(value).op->view;
       value = graph.producer_of(value).in[0]) {
    const Node& view = graph.producer_of(value);
    if (view.is(op_restore))
      affine_columns(gradient, affine_of(view).scale, TensorView(), gradient.span(), ctx_);
    else
      through_quantizer(value, gradient);
  }
  add(value, std::move(gradient));
}

void Backward::seed(ValueId value, Tensor gradient) { into_operand(value, std::move(gradient)); }

void Backward::add_operand(const Node& node, std::size_t i, Tensor gradient) {
  into_operand(node.in[i], std::move(gradient));
}

void Backward::run() {
  const std::vector<NodeId>& order = model_.graph.order();
  for (auto n = order.rbegin(); n != order.rend(); ++n) {
    const Node& node = model_.graph.node(*n);
    Tensor gradient = std::move(gradients_[static_cast<std::size_t>(node.out)]);
    if (!gradient.defined() || !matters(node.out)) continue;

    if (node.is(op_attention)) {
      back_attention(*n, gradient);
      continue;
    }
    if (node.op->gradient == nullptr) refuse(*n);
    Call call(*this, executor_, node, std::move(gradient));
    node.op->gradient(call);
  }
}

void Backward::refuse(NodeId n) const {
  throw Error(ErrorCode::kUnsupported, str(model_.node_name(n), " of ", model_.spec.model_type,
                                           " has no gradient here; leave learned steps out"));
}

void Backward::back_attention(NodeId n, const Tensor& gradient) {
  const Node& at = model_.graph.node(n);
  const AttentionCall call = executor_.attention_call(at);
  const AttentionShape shape = call.shape();
  if (call.relative_query || shape.soft_cap != 0.0F) refuse(n);
  static const AttentionQuant kNone;
  const AttentionRun run{.quant = executor_.attention_quant(n, at), .rounding = Rounding::kDivide};
  const AttentionQuant& quant = run.quant ? *run.quant : kNone;
  const auto points = quant.points();

  // Operands in front of their quantizers, and as the products have seen them.
  AttentionOperands raw = executor_.attention_operands(at);
  transform_operands(call, run, raw, ctx_);
  AttentionOperands seen(raw[0], raw[1], raw[2]);
  seen.scale = raw.scale;
  quantize_operands(run, seen, ctx_);
  Tensor grads[3];
  for (std::size_t i = 0; i < 3; ++i) grads[i] = Tensor::f32(raw[i].shape());

  const ProbsHook terms = score_terms(call, seen);
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
        const HeadBackward head{s.q_count,    s.k_count,  dim,        heads * dim,
                                groups * dim, seen.scale, quant.probs};
        std::vector<float> scores(static_cast<std::size_t>(s.q_count * s.k_count), -INFINITY);
        for (std::int64_t i = 0; i < s.q_count; ++i)
          for (std::int64_t last = shape.last_key(s, i), j = shape.first_key(last); j < last; ++j) {
            if (call.keys.mask[static_cast<std::size_t>(s.k_begin + j)] == 0) continue;
            float dot = 0;
            for (std::int64_t d = 0; d < dim; ++d) dot += query(seen[0], i)[d] * key(seen[1], j)[d];
            scores[static_cast<std::size_t>(i * s.k_count + j)] = dot * head.scale;
          }
        if (terms) terms(b / groups * heads + h, scores);
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
  transform_gradients(call, run, grads[kQueryOperand], grads[kKeyOperand], ctx_);
  for (std::size_t i = 0; i < 3; ++i) add(at.in[i], std::move(grads[i]));
}

}  // namespace quell
