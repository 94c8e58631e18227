#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/model/forward.h"
#include "quell/ops/attention.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

Range min_max(std::span<const float> v) {
  const auto [low, high] = std::minmax_element(v.begin(), v.end());
  return {*low, *high};
}

}  // namespace

std::vector<std::int32_t> position_ids(const ModelSpec& spec, const TokenBatch& batch) {
  std::vector<std::int32_t> out(batch.mask.size());
  for (std::int64_t b = 0; b < batch.batch; ++b) {
    std::int32_t seen = 0;
    for (std::int64_t i = 0; i < batch.length; ++i) {
      const auto at = static_cast<std::size_t>(b * batch.length + i);
      seen += batch.mask[at];
      if (spec.position_rule == PositionRule::kIndex)
        out[at] = static_cast<std::int32_t>(i) + spec.position_offset;
      else  // padding gets -1 + offset where the family has an offset (a row of its own), else 0
        out[at] = batch.mask[at] ? seen - 1 + spec.position_offset : std::max(spec.position_offset - 1, 0);
    }
  }
  return out;
}

Executor::Executor(const Model& model, const OpTable& ops, bool quantized, const TokenBatch& batch, ExecContext& ctx)
    : model_(model),
      ops_(ops),
      quantized_(quantized),
      batch_(batch),
      ctx_(ctx),
      values_(model.graph.producer.size()),
      positions_(position_ids(model.spec, batch)) {
  require(batch.length > 0 && batch.batch > 0, ErrorCode::kInvalidInput, "empty batch");
  require(batch.length <= model.spec.max_position_embeddings, ErrorCode::kInvalidInput, "a sequence of ", batch.length,
          " tokens is longer than the model's ", model.spec.max_position_embeddings, " positions; set --max-seq-length");
}

void Executor::run(NodeRange range) {
  for (int n = range.begin; n < range.end; ++n) {
    run_node(n);
    if (keep_values) continue;
    for (const ValueId v : model_.graph.nodes[static_cast<std::size_t>(n)].in)
      if (v != kNoValue && model_.graph.last_use[static_cast<std::size_t>(v)] == n) values_[static_cast<std::size_t>(v)] = Tensor();
  }
}

TensorView Executor::operand(ValueId v, Tensor& storage) const {
  const bool requantize = quantized_ && model_.residual_after_quant && model_.input_quant.contains(v);
  if (!requantize && !model_.restore.contains(v)) return value(v);
  storage = restored(v);
  return storage;
}

Tensor Executor::restored(ValueId v) const {
  Tensor out = value(v).clone();
  if (quantized_ && model_.residual_after_quant)
    if (const auto quant = model_.input_quant.find(v); quant != model_.input_quant.end())
      fake_quantize_activations(out, quant->second, model_.rounding, out.span(), ctx_);
  if (const auto affine = model_.restore.find(v); affine != model_.restore.end())
    affine_columns(out, affine->second.scale, affine->second.shift, out.span(), ctx_);
  return out;
}

void Executor::embed(int node, Tensor& out) const {
  const Node& n = model_.graph.nodes[static_cast<std::size_t>(node)];
  const Param& p = model_.param_of(node);
  const Tensor& table = quantized_ && p.dequantized.numel() ? p.dequantized : model_.weight_of(p);
  out = Tensor::f32({batch_.rows(), table.cols()});
  if (n.slot == Slot::kPositionEmbedding)
    gather_rows(table, positions_, "position", out.span());
  else if (n.slot == Slot::kTokenTypeEmbedding)
    gather_rows(table, batch_.type_ids, "token type id", out.span());
  else
    gather_rows(table, batch_.ids, "token id", out.span());
}

void Executor::run_attention(int node, Tensor& out) {
  const Node& n = model_.graph.nodes[static_cast<std::size_t>(node)];
  const AttentionSpec& spec = model_.attention_of(node);
  Tensor q = value(n.in[0]).clone(), k = value(n.in[1]).clone(), v = value(n.in[2]).clone();
  AttentionShape shape{batch_.batch, batch_.length, spec.num_heads, spec.num_kv_heads, spec.head_dim, spec.causal, spec.scale};
  if (!spec.rotary_inv_freq.empty()) {
    rotate(q.span(), spec.head_dim, positions_, spec.rotary_inv_freq, spec.rotary_amplitude, ctx_);
    rotate(k.span(), spec.head_dim, positions_, spec.rotary_inv_freq, spec.rotary_amplitude, ctx_);
  }
  const auto found = model_.attention_quant.find(node);
  const AttentionQuant* quant = quantized_ && found != model_.attention_quant.end() ? &found->second : nullptr;
  if ((quant || on_attention) && spec.quantize_scaled_query) {
    for (float& x : q.f32()) x *= spec.scale;
    shape.scale = 1.0F;
  }
  const auto point = [&](AttentionPoint which, Tensor& t, const std::optional<ActivationQuant>& aq) {
    if (on_attention) on_attention(node, which, t, {});
    if (aq) fake_quantize_activations(t, *aq, model_.rounding, t.span(), ctx_);
  };
  static const AttentionQuant kNone;
  const AttentionQuant& points = quant ? *quant : kNone;
  point(AttentionPoint::kQuery, q, points.query);
  point(AttentionPoint::kKey, k, points.key);
  point(AttentionPoint::kValue, v, points.value);

  std::vector<Range> ranges(on_attention ? static_cast<std::size_t>(shape.batch * shape.num_heads) : 0);
  ProbsHook hook;
  if (on_attention || points.probs)
    hook = [&](std::int64_t index, std::span<float> probs) {
      if (!ranges.empty()) ranges[static_cast<std::size_t>(index)] = min_max(probs);
      if (points.probs) fake_quantize(probs, points.probs->qparams, points.probs->spec, model_.rounding, probs);
    };
  out = Tensor::f32(q.shape());
  attention(shape, q, k, v, batch_.mask, out.span(), hook, ctx_);
  if (!on_attention) return;
  Range all = ranges.front();
  for (const Range& r : ranges) all = {std::min(all.min, r.min), std::max(all.max, r.max)};
  on_attention(node, AttentionPoint::kProbs, TensorView(), all);
}

void Executor::run_node(int node) {
  const Node& n = model_.graph.nodes[static_cast<std::size_t>(node)];
  Tensor out, storage_a, storage_b;
  switch (n.kind) {
    case StepKind::kEmbedding: embed(node, out); break;
    case StepKind::kNorm: {
      const TensorView x = operand(n.in[0], storage_a);
      const Param& p = model_.param_of(node);
      out = Tensor::f32(x.shape());
      normalize(model_.spec.norm_kind, x, p.weight, p.bias, model_.spec.norm_eps, out.span(), ctx_);
      break;
    }
    case StepKind::kLinear: {
      const Tensor& x = value(n.in[0]);
      out = Tensor::f32({x.rows(), model_.weight_of(model_.param_of(node)).rows()});
      ops_[static_cast<std::size_t>(node)]->forward(x, out.span(), ctx_);
      break;
    }
    case StepKind::kActivation: {
      const TensorView x = operand(n.in[0], storage_a);
      out = Tensor::f32(x.shape());
      activate(n.activation, x, out.span(), ctx_);
      break;
    }
    case StepKind::kMultiply:
    case StepKind::kAdd: {
      const TensorView a = operand(n.in[0], storage_a), b = operand(n.in[1], storage_b);
      out = Tensor::f32(a.shape());
      (n.kind == StepKind::kAdd ? add : multiply)(a, b, out.span(), ctx_);
      break;
    }
    case StepKind::kAttention: run_attention(node, out); break;
    case StepKind::kSelectFirst: {
      const TensorView x = operand(n.in[0], storage_a);
      out = Tensor::f32({batch_.batch, x.cols()});
      for (std::int64_t b = 0; b < batch_.batch; ++b) std::copy_n(x.row(b * batch_.length), x.cols(), out.row(b));
      break;
    }
  }
  if (const auto affine = model_.explicit_affine.find(n.out); affine != model_.explicit_affine.end())
    inverse_affine_columns(out, affine->second.scale, affine->second.shift, out.span(), ctx_);
  set(n.out, std::move(out));
}

}  // namespace quell
