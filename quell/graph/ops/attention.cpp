// Scaled dot-product attention with everything that families put around it: rotation, biases by
// distance, windows, soft caps.
#include <algorithm>

#include "quell/base/error.h"
#include "quell/graph/attention_run.h"
#include "quell/graph/ops.h"
#include "quell/graph/relative_positions.h"

namespace quell {

AttentionAttributes::AttentionAttributes(AttentionRecipe said) : recipe(std::move(said)) {
  f32.num_heads = recipe.num_heads;
  f32.num_kv_heads = recipe.num_kv_heads;
  f32.head_dim = recipe.head_dim;
  f32.causal = recipe.causal;
  f32.cross = recipe.cross;
  f32.sliding_window = recipe.sliding_window;
  f32.scale = recipe.scale.f32();
  f32.soft_cap = static_cast<float>(recipe.soft_cap);
  if (recipe.alibi) f32.alibi_slopes = alibi_slopes(recipe.num_heads);
  f32.disentangled = recipe.disentangled;
  f32.quantize_scaled_query = recipe.quantize_scaled_query;
  if (recipe.rotary) {
    f32.rotary_inv_freq = rotary_frequencies(*recipe.rotary);
    f32.rotary_amplitude = static_cast<float>(recipe.rotary->amplitude);
  }
}

const AttentionSpec& attention_of(const Node& node) {
  return node.attributes.get<AttentionAttributes>().f32;
}

const AttentionQuant* attention_quant_of(const Node& node) {
  if (!node.is(op_attention)) return nullptr;
  const AttentionQuant& quant = node.attributes.get<AttentionAttributes>().quant;
  const auto points = quant.points();
  const bool any = std::any_of(points.begin(), points.end(),
                               [](const auto* point) { return point->has_value(); });
  return any ? &quant : nullptr;
}

void set_attention_quant(Graph& graph, NodeId node, AttentionQuant quant) {
  AttentionAttributes attributes = graph.node(node).attributes.get<AttentionAttributes>();
  attributes.quant = std::move(quant);
  graph.set_attributes(node, Attributes::of(std::move(attributes)));
}

std::vector<NodeId> quantized_attentions(const Graph& graph) {
  std::vector<NodeId> out;
  for (NodeId n = 0; n < graph.num_nodes(); ++n)
    if (attention_quant_of(graph.node(n))) out.push_back(n);
  return out;
}

AttentionCall attention_call(OpCall& call, const RotaryTable* rotary) {
  const AttentionSpec& spec = attention_of(call.node());
  const TokenBatch& queries = call.tokens();
  AttentionCall out{.spec = spec,
                    .queries = queries,
                    .keys = spec.cross ? call.first_tokens() : queries,
                    .rotary = rotary};
  if (call.has(kPositionsOperand)) out.positions = call.in(kPositionsOperand).as<std::int32_t>();
  if (call.has(kBiasOperand)) out.bias = call.in(kBiasOperand);
  if (call.has(kRelativeQueryOperand)) {
    out.relative_query = call.in(kRelativeQueryOperand);
    out.relative_key = call.in(kRelativeKeyOperand);
  }

  const bool by_distance = out.relative_query.has_value() || out.bias.has_value() || spec.cross;
  require(queries.starts.empty() || !by_distance, ErrorCode::kUnsupported, call.node().label,
          ": reads padded batches only, as this attention depends on the distance of rows");
  return out;
}

namespace {

ValueType infer(const Graph& graph, const Node& node) {
  const AttentionRecipe& a = node.attributes.get<AttentionAttributes>().recipe;
  const auto columns = [&](AttentionOperand i) {
    return graph.value(node.operand(i)).type.columns;
  };
  const bool fits = columns(kQueryOperand) == a.num_heads * a.head_dim &&
                    columns(kKeyOperand) == a.num_kv_heads * a.head_dim &&
                    columns(kValueOperand) == a.num_kv_heads * a.head_dim;
  require(fits, ErrorCode::kUnsupported, node.label, ": ", a.num_heads, " heads of ", a.head_dim,
          " dimensions do not fit q, k and v of ", columns(kQueryOperand), ", ",
          columns(kKeyOperand), " and ", columns(kValueOperand), " columns");
  require(!a.needs_positions() || node.operand(kPositionsOperand) != kNoValue,
          ErrorCode::kUnsupported, node.label, ": needs the positions of its tokens");

  ValueType type = graph.value(node.operand(kQueryOperand)).type;
  type.constant = false;
  return type;
}

Tensor reference(OpCall& call) {
  const AttentionCall attention = attention_call(call);
  AttentionOperands operands(call.in(kQueryOperand), call.in(kKeyOperand), call.in(kValueOperand));
  return run_attention(attention, {}, std::move(operands), call.ctx());
}

/// Rows of probabilities sum to one: what changes in the values changes in the output. Query heads
/// share the heads of values.
ChannelPass pass(const Node& node) {
  const AttentionSpec& spec = attention_of(node);
  return {.operand = kValueOperand,
          .change = ChannelChange::kScaleAndShift,
          .shared = {spec.num_heads / spec.num_kv_heads, spec.head_dim}};
}

}  // namespace

const OpDef op_attention = {.name = "attention",
                            .infer = infer,
                            .channels = {.kind = ChannelKind::kHeads, .pass = pass},
                            .reference = reference};

}  // namespace quell
