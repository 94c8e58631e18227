#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>

#include "quell/base/error.h"
#include "quell/model/attention_call.h"
#include "quell/model/forward.h"
#include "quell/quant/integer_attention.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

constexpr Range kNothing{std::numeric_limits<float>::infinity(),
                         -std::numeric_limits<float>::infinity()};

Range hull(const Range& a, const Range& b) {
  return {std::min(a.min, b.min), std::max(a.max, b.max)};
}

/// Extrema of the rows of probabilities [q_count, k_count] whose queries are tokens. What padding
/// attends to is read by nobody.
Range range_of_queries(std::span<const float> probs, const SequenceSpan& s,
                       std::span<const std::int32_t> query_mask) {
  Range all = kNothing;
  for (std::int64_t i = 0; i < s.q_count; ++i) {
    if (query_mask[static_cast<std::size_t>(s.q_begin + i)] == 0) continue;
    const auto row =
        probs.subspan(static_cast<std::size_t>(i * s.k_count), static_cast<std::size_t>(s.k_count));
    const auto [low, high] = std::minmax_element(row.begin(), row.end());
    all = hull(all, {*low, *high});
  }
  return all;
}

}  // namespace

std::vector<std::int32_t> position_ids(const ModelSpec& spec, const TokenBatch& batch) {
  std::vector<std::int32_t> out(batch.mask.size());
  for (std::int64_t b = 0; b < batch.batch; ++b) {
    std::int32_t seen = batch.past_of(b);
    for (std::int64_t i = 0; i < batch.row_count(b); ++i) {
      const auto at = static_cast<std::size_t>(batch.row_begin(b) + i);
      const bool counts = spec.position_rule == PositionRule::kNonPadCount
                              ? batch.ids[at] != spec.pad_token_id
                              : batch.mask[at] != 0;
      seen += counts ? 1 : 0;
      if (spec.position_rule == PositionRule::kIndex)
        out[at] = static_cast<std::int32_t>(i) + batch.past_of(b) + spec.position_offset;
      else  // padding gets -1 + offset where the family has an offset (a row of its own), else 0
        out[at] = counts ? seen - 1 + spec.position_offset : std::max(spec.position_offset - 1, 0);
    }
  }
  return out;
}

TokenBatch decoder_batch(const ModelSpec& spec, const TokenBatch& batch) {
  TokenBatch out;
  out.batch = batch.batch;
  if (batch.decoder_length > 0) {
    out.length = batch.decoder_length;
    out.ids = batch.decoder_ids;
    out.mask = batch.decoder_mask;
  } else {
    out.length = batch.length;
    for (std::size_t i = 0; i < batch.ids.size(); ++i)
      out.ids.push_back(i % static_cast<std::size_t>(batch.length) == 0
                            ? spec.decoder_start_token_id
                            : batch.ids[i - 1]);
  }
  if (out.mask.empty()) out.mask.assign(out.ids.size(), 1);
  out.type_ids.assign(out.ids.size(), 0);
  return out;
}

Executor::Executor(const Model& model, const OpTable& ops, bool quantized, const TokenBatch& batch,
                   ExecContext& ctx, const FusionTable* fused, const CachedPass* cached)
    : model_(model),
      ops_(ops),
      quantized_(quantized),
      batch_(batch),
      ctx_(ctx),
      fused_(fused && !fused->empty() ? fused : nullptr),
      cached_(cached),
      values_(model.graph.producer.size()),
      codes_(model.graph.producer.size()),
      positions_(position_ids(model.spec, batch)) {
  require(batch.length > 0 && batch.batch > 0, ErrorCode::kInvalidInput, "empty batch");
  require((model.spec.patch_size > 0) == !batch.pixels.empty(), ErrorCode::kInvalidInput,
          model.spec.model_type,
          model.spec.patch_size > 0 ? " reads images, not tokens" : " reads tokens, not images");
  if (model.spec.stacks.back().decoder && model.spec.stacks.size() > 1) {
    decoder_ = decoder_batch(model.spec, batch);
    decoder_positions_ = position_ids(model.spec, decoder_);
  }
  std::int64_t longest = std::max(batch.length, decoder_.length);
  for (std::int64_t b = 0; b < batch.batch && cached; ++b)
    longest = std::max(longest, batch.row_count(b) + batch.past_of(b));
  require(longest <= model.spec.max_position_embeddings, ErrorCode::kInvalidInput, "a sequence of ",
          longest, " tokens is longer than the model's ", model.spec.max_position_embeddings,
          " positions; shorten it (--max-seq-length; --shape of bench)");
}

const TokenBatch& Executor::batch_of(ValueId v) const {
  return batch_at(model_.graph.producer[static_cast<std::size_t>(v)]);
}

void Executor::run(NodeRange range) {
  for (int n = range.begin; n < range.end; ++n) {
    const auto at = static_cast<std::size_t>(n);
    const NodeOp* op = fused_ ? fused_->ops[at].get() : nullptr;
    if (!fused_ || !fused_->covered[at]) {
      const auto start = std::chrono::steady_clock::now();
      op ? op->run(*this, ctx_) : run_node(n);
      if (ctx_.operator_times)
        (*ctx_.operator_times)[op ? op->describe()
                                  : std::string(step_kind_name(node_at(n).kind)) + " in f32"] +=
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    model_.drop_pages(n);
    if (keep_values) continue;
    for (const ValueId v : model_.graph.nodes[at].in)
      if (v != kNoValue && model_.graph.last_use[static_cast<std::size_t>(v)] == n) {
        values_[static_cast<std::size_t>(v)] = Tensor();
        codes_[static_cast<std::size_t>(v)] = QuantizedRows();
      }
  }
}

void Executor::spill() {
  constexpr std::int64_t kSmall = 4096;  // elements; not worth a file's pages
  for (Tensor& t : values_)
    if (model_.values_in_scratch && t.numel() > kSmall) t.spill(model_.scratch);
}

TensorView Executor::operand(ValueId v, Tensor& storage) const {
  const bool requantize =
      quantized_ && model_.residual_after_quant && model_.input_quant.contains(v);
  if (!requantize && !model_.restore.contains(v)) return value(v);
  storage = restored(v);
  return storage;
}

Tensor Executor::restored(ValueId v) const {
  Tensor out;
  if (value(v).defined()) {
    out = value(v).clone();
    if (quantized_ && model_.residual_after_quant)
      if (const auto quant = model_.input_quant.find(v); quant != model_.input_quant.end())
        fake_quantize_activations(out, quant->second, model_.rounding, out.span(), ctx_);
  } else {
    out = dequantize_rows(codes_[static_cast<std::size_t>(v)], ctx_);
  }
  if (const auto affine = model_.restore.find(v); affine != model_.restore.end())
    affine_columns(out, affine->second.scale, affine->second.shift, out.span(), ctx_);
  return out;
}

void Executor::set_output(ValueId v, Tensor tensor) {
  if (const auto affine = model_.explicit_affine.find(v); affine != model_.explicit_affine.end())
    inverse_affine_columns(tensor, affine->second.scale, affine->second.shift, tensor.span(), ctx_);
  set(v, std::move(tensor));
}

const QuantizedRows& Executor::codes(ValueId v, const ActivationQuant& quant, bool with_sums) {
  QuantizedRows& rows = codes_[static_cast<std::size_t>(v)];
  if (!rows.defined() || (with_sums && rows.sum.empty() && value(v).defined()))
    rows = quantize_rows(value(v), quant, with_sums, ctx_);
  if (with_sums && rows.sum.empty())
    for (std::int64_t i = 0; i < rows.rows; ++i)
      rows.sum.push_back(std::accumulate(rows.row(i), rows.row(i) + rows.columns, std::int32_t{0}));
  return rows;
}

kernels::ResidualArgs Executor::residual(ValueId v, Tensor& storage) {
  kernels::ResidualArgs out;
  const auto quant = model_.input_quant.find(v);
  const bool requantize =
      quantized_ && model_.residual_after_quant && quant != model_.input_quant.end();
  if (requantize && is_static_per_tensor(quant->second)) {
    const QuantizedRows& rows = codes(v, quant->second, false);
    out.codes = rows.row(0);
    out.ld = rows.stride;
    out.zero =
        static_cast<float>(quant->second.qparams.zero_point + code_shift(quant->second.spec));
    out.scale = quant->second.qparams.scale;
  } else if (requantize) {
    storage = restored(v);
    out.f32 = storage.f32().data();
    out.ld = storage.cols();
    return out;
  } else {
    out.f32 = value(v).f32().data();
    out.ld = value(v).cols();
  }
  if (const auto affine = model_.restore.find(v); affine != model_.restore.end()) {
    out.column_scale = affine->second.scale.f32().data();
    if (affine->second.shift.defined()) out.column_shift = affine->second.shift.f32().data();
  }
  return out;
}

void Executor::embed(int node, Tensor& out) const {
  const Node& n = node_at(node);
  const Param& p = model_.param_of(node);
  const Tensor& table = quantized_ && p.dequantized.numel() ? p.dequantized : model_.weight_of(p);
  if (n.kind == StepKind::kTable) {
    out = table.clone();
    return;
  }
  const TokenBatch& batch = batch_at(node);
  out = Tensor::f32({batch.rows(), table.cols()});
  if (n.slot == Slot::kPositionEmbedding)
    gather_rows(table, in_decoder(node) && decoder_.length > 0 ? decoder_positions_ : positions_,
                "position", out.span());
  else if (n.slot == Slot::kTokenTypeEmbedding)
    gather_rows(table, batch.type_ids, "token type id", out.span());
  else
    gather_rows(table, batch.ids, "token id", out.span());
}

/// Of the input, of which the decoder's tokens are a copy shifted right.
bool Executor::is_end(std::size_t at) const {
  const auto& eos = model_.spec.eos_token_ids;
  return std::find(eos.begin(), eos.end(), batch_.ids[at]) != eos.end();
}

/// Padding is known by its token, also where the text itself ends with that token, as the reference
/// does; by the mask where the model has none.
bool Executor::is_last_candidate(const TokenBatch& batch, std::size_t at) const {
  const bool is_pad = model_.spec.has_pad_token && batch.ids[at] == model_.spec.pad_token_id;
  return batch.mask[at] != 0 && !is_pad;
}

void Executor::run_selection(int node, Tensor& out) const {
  const Node& n = node_at(node);
  const TokenBatch& batch = batch_at(node);
  Tensor storage;
  const TensorView x = operand(n.in[0], storage);
  out = Tensor::f32({batch.batch, x.cols()});
  for (std::int64_t b = 0; b < batch.batch; ++b) {
    std::int64_t chosen = n.kind == StepKind::kSelectEos ? -1 : 0;
    for (std::int64_t i = 0; i < batch.row_count(b) && n.kind != StepKind::kSelectFirst; ++i) {
      const auto at = static_cast<std::size_t>(batch.row_begin(b) + i);
      if (n.kind == StepKind::kSelectLast ? is_last_candidate(batch, at) : is_end(at)) chosen = i;
    }
    require(chosen >= 0, ErrorCode::kInvalidInput, "sequence ", b,
            " of the batch holds no end-of-sequence token, which this head reads");
    std::copy_n(x.row(batch.row_begin(b) + chosen), x.cols(), out.row(b));
  }
}

AttentionCall Executor::attention_call(int node) {
  const Node& n = node_at(node);
  const AttentionSpec& spec = model_.attention_of(node);
  const TokenBatch& queries = batch_at(node);
  AttentionCall call{.spec = spec,
                     .queries = queries,
                     .keys = n.cross ? batch_ : queries,
                     .cross = n.cross,
                     .positions = positions_};
  if (!spec.rotary_inv_freq.empty()) {
    RotaryTable& table = rotary_[{spec.rotary_inv_freq, spec.rotary_amplitude}];
    if (!table.cosine.defined())
      table = make_rotary_table(positions_, spec.rotary_inv_freq, spec.rotary_amplitude, ctx_);
    call.rotary = &table;
  }
  if (spec.disentangled.span > 0) {
    call.relative_query = &value(n.in[3]);
    call.relative_key = &value(n.in[4]);
  } else if (n.in[3] != kNoValue) {
    call.bias = &value(n.in[3]);
  }
  require(queries.starts.empty() || (!call.relative_query && !call.bias && !n.cross),
          ErrorCode::kUnsupported, model_.spec.model_type,
          " reads padded batches only: its attention depends on the distance of rows");
  return call;
}

void Executor::write_cache(int node, const TensorView& k, const TensorView& v) {
  const auto found = model_.attention_quant.find(node);
  const AttentionQuant* quant =
      quantized_ && found != model_.attention_quant.end() ? &found->second : nullptr;
  for (std::int64_t b = 0; b < batch_.batch; ++b)
    cached_->cache->write(node, cached_->slots[static_cast<std::size_t>(b)], k, v,
                          batch_.row_begin(b), batch_.row_count(b), quant, ctx_);
}

void Executor::attend_cached(int node, Tensor& out) {
  const Node& n = node_at(node);
  const AttentionCall call = attention_call(node);
  const auto operand_of = [&](int i) {
    const ValueId v = n.in[static_cast<std::size_t>(i)];
    return value(v).defined() ? value(v).clone()
                              : dequantize_rows(codes_[static_cast<std::size_t>(v)], ctx_);
  };
  Tensor q = operand_of(0), k = operand_of(1), v = operand_of(2);
  rotate_operands(call, q, k, ctx_);
  static const AttentionQuant kNone;
  const auto found = model_.attention_quant.find(node);
  const AttentionQuant& quant =
      quantized_ && found != model_.attention_quant.end() ? found->second : kNone;
  float scale = call.spec.scale;
  if (quant.query && call.spec.quantize_scaled_query) {
    for (float& x : q.f32()) x *= scale;
    scale = 1.0F;
  }
  for (const auto& [t, point] : {std::pair(&q, &quant.query), {&k, &quant.key}, {&v, &quant.value}})
    if (*point) fake_quantize_activations(*t, **point, model_.rounding, t->span(), ctx_);
  write_cache(node, k, v);
  out = Tensor::uninitialized(DType::kF32, q.shape());
  for (std::int64_t b = 0; b < batch_.batch; ++b)
    cached_->cache->attend(node, cached_->slots[static_cast<std::size_t>(b)], call, scale, q,
                           batch_.row_begin(b), batch_.row_count(b), quant.probs, out.span(), ctx_);
}

void Executor::keep_last_rows(ValueId v) {
  const Tensor& x = value(v);
  Tensor out = Tensor::uninitialized(DType::kF32, {batch_.batch, x.cols()});
  for (std::int64_t b = 0; b < batch_.batch; ++b)
    std::copy_n(x.row(batch_.row_begin(b) + batch_.row_count(b) - 1), x.cols(), out.row(b));
  set(v, std::move(out));
  codes_[static_cast<std::size_t>(v)] = QuantizedRows();
}

void Executor::run_attention(int node, Tensor& out) {
  if (continues()) return attend_cached(node, out);
  const Node& n = node_at(node);
  const AttentionCall call = attention_call(node);
  const AttentionSpec& spec = call.spec;
  Tensor q = value(n.in[0]).clone(), k = value(n.in[1]).clone(), v = value(n.in[2]).clone();
  rotate_operands(call, q, k, ctx_);
  AttentionShape shape = call.shape();
  const auto found = model_.attention_quant.find(node);
  const AttentionQuant* quant =
      quantized_ && found != model_.attention_quant.end() ? &found->second : nullptr;
  if ((quant || on_attention) && spec.quantize_scaled_query) {
    for (float& x : q.f32()) x *= spec.scale;
    shape.scale = 1.0F;
  }
  const auto point = [&](AttentionPoint which, Tensor& t,
                         const std::optional<ActivationQuant>& aq) {
    if (on_attention) on_attention(node, which, t, {});
    if (aq) fake_quantize_activations(t, *aq, model_.rounding, t.span(), ctx_);
  };
  static const AttentionQuant kNone;
  const AttentionQuant& points = quant ? *quant : kNone;
  point(AttentionPoint::kQuery, q, points.query);
  point(AttentionPoint::kKey, k, points.key);
  point(AttentionPoint::kValue, v, points.value);
  if (cached_) write_cache(node, k, v);

  std::vector<Range> ranges(
      on_attention ? shape.sequences.size() * static_cast<std::size_t>(shape.num_heads) : 0);
  ProbsHook hook;
  if (on_attention || points.probs)
    hook = [&](std::int64_t index, std::span<float> probs) {
      if (!ranges.empty())
        ranges[static_cast<std::size_t>(index)] = range_of_queries(
            probs, shape.sequences[static_cast<std::size_t>(index / shape.num_heads)],
            call.queries.mask);
      if (points.probs)
        fake_quantize(probs, points.probs->qparams, points.probs->spec, model_.rounding, probs);
    };
  out = Tensor::f32(q.shape());
  attention(shape, q, k, v, call.keys.mask, out.span(), call.score_hook(q, k), hook, ctx_);
  if (!on_attention) return;
  Range all = kNothing;
  for (const Range& r : ranges) all = hull(all, r);
  if (all.min <= all.max) on_attention(node, AttentionPoint::kProbs, TensorView(), all);
}

void Executor::run_simple(int node, const TensorView& x, Tensor& out) const {
  const Node& n = node_at(node);
  const TokenBatch& batch = batch_at(node);
  if (n.kind == StepKind::kSelectColumn) {
    const auto column = static_cast<std::int64_t>(n.number);
    out = Tensor::f32({x.rows(), 1});
    for (std::int64_t i = 0; i < x.rows(); ++i) out.row(i)[0] = x.row(i)[column];
    return;
  }
  out = Tensor::f32(x.shape());
  for (std::int64_t i = 0; i < x.rows(); ++i)
    for (std::int64_t j = 0; j < x.cols(); ++j) {
      const float v = x.row(i)[j];
      out.row(i)[j] = n.kind == StepKind::kScale ? v * n.number
                      : n.kind == StepKind::kSoftCap
                          ? n.number * std::tanh(v / n.number)
                          : v * static_cast<float>(batch.mask[static_cast<std::size_t>(i)]);
    }
}

void Executor::run_node(int node) {
  const Node& n = model_.graph.nodes[static_cast<std::size_t>(node)];
  Tensor out, storage_a, storage_b;
  switch (n.kind) {
    case StepKind::kEmbedding:
    case StepKind::kTable: embed(node, out); break;
    case StepKind::kNorm: {
      const TensorView x = operand(n.in[0], storage_a);
      const Param& p = model_.param_of(node);
      out = Tensor::f32(x.shape());
      normalize(model_.spec.norm_kind, x, p.weight, p.bias, model_.spec.norm_eps, out.span(), ctx_);
      break;
    }
    case StepKind::kHeadNorm: {
      const Param& p = model_.param_of(node);
      out = value(n.in[0]).clone();
      normalize_heads(model_.spec.norm_kind, p.weight, p.bias, model_.spec.norm_eps, out, ctx_);
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
    case StepKind::kScale:
    case StepKind::kSoftCap:
    case StepKind::kMaskRows:
    case StepKind::kSelectColumn: run_simple(node, operand(n.in[0], storage_a), out); break;
    case StepKind::kAttention: run_attention(node, out); break;
    case StepKind::kRelativeBias: {
      const Stack& stack = model_.spec.stacks[static_cast<std::size_t>(n.stack)];
      out = relative_bias_table(stack.relative_bias, model_.param_of(node).weight,
                                batch_at(node).length);
      break;
    }
    case StepKind::kSelectFirst:
    case StepKind::kSelectLast:
    case StepKind::kSelectEos: run_selection(node, out); break;
    case StepKind::kPatches:
      out = patches(batch_.pixels, batch_.batch, model_.spec.num_channels, model_.spec.image_size,
                    model_.spec.patch_size);
      break;
    case StepKind::kPrependToken: {
      const TensorView x = operand(n.in[0], storage_a);
      const Tensor& token = model_.param_of(node).weight;
      out = Tensor::f32({batch_.rows(), x.cols()});
      for (std::int64_t b = 0; b < batch_.batch; ++b) {
        std::copy_n(token.f32().data(), x.cols(), out.row(b * batch_.length));
        std::copy_n(x.row(b * (batch_.length - 1)), x.cols() * (batch_.length - 1),
                    out.row(b * batch_.length + 1));
      }
      break;
    }
  }
  set_output(n.out, std::move(out));
}

}  // namespace quell
