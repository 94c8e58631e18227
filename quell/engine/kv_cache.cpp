#include "quell/engine/kv_cache.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/kernels/kv/kv.h"
#include "quell/kernels/rows/rows.h"
#include "quell/quant/quantize.h"
#include "quell/quant/quantized_rows.h"

namespace quell {
namespace {

/// Steps of one head's row: the static quantizer's, or its own range in 255 steps.
StepAndZero step_of(const float* row, std::int64_t n, const std::optional<ActivationQuant>* fixed,
                    const kernels::RowKernels& rows, QuantSpec& spec) {
  if (fixed && *fixed && !(*fixed)->spec.dynamic) {
    spec = (*fixed)->spec;
    return (*fixed)->qparams;
  }
  spec = QuantSpec{.num_bits = 8, .symmetric = false};
  const kernels::RowRange r = rows.range(row, n);
  return calculate_qparams({r.min, r.max}, spec);
}

}  // namespace

bool supports_kv_cache(const Model& model) {
  if (model.graph.is_encoder_decoder() || model.spec.head != Head::kCausalLm) return false;

  const std::vector<Node>& nodes = model.graph.nodes();
  return std::all_of(nodes.begin(), nodes.end(), [](const Node& node) {
    if (!node.is(op_attention)) return node.op->row_by_row || node.is(op_position_ids);
    const bool by_distance =
        node.operand(kBiasOperand) != kNoValue || node.operand(kRelativeQueryOperand) != kNoValue;
    return attention_of(node).causal && !attention_of(node).cross && !by_distance;
  });
}

KvCache::KvCache(const Model& model, std::int64_t slots, std::int64_t capacity, KvFormat format)
    : format_(format),
      slots_(slots),
      capacity_((capacity + kernels::kKeyBlock - 1) / kernels::kKeyBlock * kernels::kKeyBlock),
      lengths_(static_cast<std::size_t>(slots), 0) {
  require(supports_kv_cache(model), ErrorCode::kUnsupported, model.spec.model_type,
          ": sequences cannot be continued token by token");
  for (NodeId n = 0; n < model.graph.num_nodes(); ++n) {
    if (!model.graph.node(n).is(op_attention)) continue;
    const AttentionSpec& spec = attention_of(model.graph.node(n));
    Layer& layer = layers_[n];
    layer.num_kv_heads = spec.num_kv_heads;
    layer.head_dim = spec.head_dim;
    const auto tokens = static_cast<std::size_t>(slots * spec.num_kv_heads * capacity_);
    const std::size_t bytes = tokens * static_cast<std::size_t>(spec.head_dim) *
                              (format == KvFormat::kF32 ? sizeof(float) : 1);
    layer.keys = AlignedBuffer(bytes);
    layer.values = AlignedBuffer(bytes);
    if (format == KvFormat::kF32) continue;
    for (auto* v : {&layer.key_scale, &layer.key_zero, &layer.value_scale, &layer.value_zero})
      v->assign(tokens, 0.0F);
  }
}

std::size_t KvCache::bytes() const {
  std::size_t sum = 0;
  for (const auto& [node, layer] : layers_)
    sum += layer.keys.size() + layer.values.size() + 4 * sizeof(float) * layer.key_scale.size();
  return sum;
}

void KvCache::write(int node, std::int64_t slot, const TensorView& k, const TensorView& v,
                    std::int64_t row, std::int64_t count, const AttentionQuant* quant,
                    ExecContext& ctx) {
  Layer& layer = layers_.at(node);
  const std::int64_t begin = length(slot), d = layer.head_dim;
  require(begin + count <= capacity_, ErrorCode::kInvalidInput, "the KV cache of ", capacity_,
          " tokens is full");
  const kernels::RowKernels& rows = kernels::row_kernels(ctx.isa);
  ctx.pool.parallel_for(layer.num_kv_heads, 1, [&](std::int64_t first, std::int64_t last) {
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(d));
    for (std::int64_t h = first; h < last; ++h)
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t base = head_at(layer, slot, h), token = begin + i;
        const float *key = k.row(row + i) + h * d, *value = v.row(row + i) + h * d;
        if (format_ == KvFormat::kF32) {
          auto* keys = reinterpret_cast<float*>(layer.keys.data()) + base * d;
          for (std::int64_t c = 0; c < d; ++c) keys[kernels::key_offset(d, token, c)] = key[c];
          std::copy_n(value, d, reinterpret_cast<float*>(layer.values.data()) + (base + token) * d);
          continue;
        }
        const auto encode = [&](const float* from, const std::optional<ActivationQuant>* fixed,
                                std::vector<float>& scale, std::vector<float>& zero) {
          QuantSpec spec;
          const StepAndZero qp = step_of(from, d, fixed, rows, spec);
          rows.quantize(from, d, code_args(spec, qp), codes.data());
          scale[static_cast<std::size_t>(base + token)] = qp.scale;
          zero[static_cast<std::size_t>(base + token)] =
              static_cast<float>(qp.zero_point + code_shift(spec));
        };
        encode(key, quant ? &quant->key : nullptr, layer.key_scale, layer.key_zero);
        auto* keys = reinterpret_cast<std::uint8_t*>(layer.keys.data()) + base * d;
        for (std::int64_t c = 0; c < d; ++c)
          keys[kernels::key_offset(d, token, c)] = codes[static_cast<std::size_t>(c)];
        encode(value, quant ? &quant->value : nullptr, layer.value_scale, layer.value_zero);
        std::copy_n(codes.data(), d,
                    reinterpret_cast<std::uint8_t*>(layer.values.data()) + (base + token) * d);
      }
  });
}

void KvCache::attend(int node, std::int64_t slot, const AttentionCall& call,
                     const AttentionRun& run, const AttentionOperands& operands, std::int64_t row,
                     std::int64_t count, TensorSpan out, ExecContext& ctx) const {
  const Layer& layer = layers_.at(node);
  const AttentionSpec& spec = call.spec;
  const TensorView& q = operands[kQueryOperand];
  const float scale = operands.scale;
  const std::int64_t d = layer.head_dim, total = length(slot) + count,
                     group = spec.num_heads / spec.num_kv_heads;
  const kernels::RowKernels& rows = kernels::row_kernels(ctx.isa);
  const kernels::KvKernels& kv = kernels::kv_kernels(ctx.isa);
  const std::vector<std::int32_t> mask(static_cast<std::size_t>(total), 1);
  ctx.pool.parallel_for(
      count * spec.num_heads, 1, [&](std::int64_t first_item, std::int64_t last_item) {
        std::vector<float> scores(static_cast<std::size_t>(total + kernels::kKeyBlock));
        for (std::int64_t item = first_item; item < last_item; ++item) {
          const std::int64_t i = item / spec.num_heads, h = item % spec.num_heads,
                             base = head_at(layer, slot, h / group);
          const std::int64_t tokens = length(slot) + i + 1;
          const std::int64_t first =
              spec.sliding_window > 0 ? std::max<std::int64_t>(0, tokens - spec.sliding_window) : 0;
          const float* query = q.row(row + i) + h * d;
          float* to = out.row(row + i) + h * d;
          const auto at = static_cast<std::size_t>(base);
          const kernels::CachedSteps key_steps{
              layer.key_scale.data() + (layer.key_scale.empty() ? 0 : at),
              layer.key_zero.data() + (layer.key_zero.empty() ? 0 : at)};
          const kernels::CachedSteps value_steps{
              layer.value_scale.data() + (layer.value_scale.empty() ? 0 : at),
              layer.value_zero.data() + (layer.value_zero.empty() ? 0 : at)};
          if (format_ == KvFormat::kF32)
            kv.score_f32(query, reinterpret_cast<const float*>(layer.keys.data()) + base * d, d,
                         tokens, scale, scores.data());
          else
            kv.score_codes(query,
                           reinterpret_cast<const std::uint8_t*>(layer.keys.data()) + base * d,
                           key_steps, d, tokens, scale, scores.data());
          // A sequence in a cache has no padding: token t is at position t.
          if (!spec.alibi_slopes.empty())
            for (std::int64_t t = 0; t < tokens; ++t)
              scores[static_cast<std::size_t>(t)] +=
                  spec.alibi_slopes[static_cast<std::size_t>(h)] * static_cast<float>(t);
          if (spec.soft_cap > 0)
            soft_cap({scores.data(), static_cast<std::size_t>(tokens)}, spec.soft_cap, ctx.isa);
          rows.softmax(scores.data(), first, tokens, tokens, mask.data(),
                       {scores.data(), nullptr, {}});
          quantize_map(run, {scores.data(), static_cast<std::size_t>(tokens)});
          if (format_ == KvFormat::kF32)
            kv.mix_f32(scores.data(),
                       reinterpret_cast<const float*>(layer.values.data()) + base * d, d, first,
                       tokens, to);
          else
            kv.mix_codes(scores.data(),
                         reinterpret_cast<const std::uint8_t*>(layer.values.data()) + base * d,
                         value_steps, d, first, tokens, to);
        }
      });
}

}  // namespace quell
