// DeBERTa-v2 and v3 (He et al. 2021): BERT with disentangled attention. Queries and keys of the relative positions come from q_proj
// and k_proj themselves (share_att_key), which therefore read two values.
#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/model/bert_like.h"

namespace quell {
namespace {

DisentangledSpec read_disentangled(const Settings& config) {
  DisentangledSpec d;
  require(json_bool(config, "relative_attention", false), ErrorCode::kUnsupported,
          "key \"relative_attention\": deberta-v2 without it is not supported");
  require(json_bool(config, "share_att_key", false), ErrorCode::kUnsupported,
          "key \"share_att_key\": deberta-v2 with matrices of their own for positions is not supported");
  require(json_int(config, "conv_kernel_size", 0, kMaxDim, 0) == 0, ErrorCode::kUnsupported,
          "key \"conv_kernel_size\": deberta-v2 with a convolution is not supported");
  d.max_distance = json_int(config, "max_relative_positions", -1, kMaxDim, -1);
  if (d.max_distance < 1) d.max_distance = json_int(config, "max_position_embeddings", 1, kMaxDim, 512);
  d.buckets = std::max<std::int64_t>(0, json_int(config, "position_buckets", -1, kMaxDim, -1));
  d.span = d.buckets > 0 ? d.buckets : d.max_distance;
  const Json& types = config.value("pos_att_type");
  const auto has = [&](const char* type) {
    if (types.is_string()) return types.get<std::string>().find(type) != std::string::npos;  // "p2c|c2p" of older files
    return types.is_array() && std::find(types.begin(), types.end(), type) != types.end();
  };
  d.content_to_position = has("c2p");
  d.position_to_content = has("p2c");
  return d;
}

bool has_norm(const Settings& config) {
  return json_string(config, "norm_rel_ebd", "none").find("layer_norm") != std::string::npos;
}
std::int64_t token_types(const Settings& config) { return json_int(config, "type_vocab_size", 0, kMaxDim, 0); }
bool has_positions(const Settings& config) { return json_bool(config, "position_biased_input", true); }

ModelSpec read_spec(const Settings& config) {
  ModelSpec s = bert_like_spec(config);
  s.norm_eps = json_number(config, "layer_norm_eps", 1e-7);
  Stack& stack = s.stacks[0];
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden)};
  for (const auto& [wanted, slot] :
       {std::pair(has_positions(config), Slot::kPositionEmbedding), {token_types(config) > 0, Slot::kTokenTypeEmbedding}})
    if (wanted)
      append(stack.prologue, {embedding(slot, Value::kEmbedded), add_values(Value::kHidden, Value::kEmbedded, Value::kHidden)});
  append(stack.prologue, {norm(Slot::kEmbeddingNorm, Value::kHidden, Value::kHidden),
                          simple_step(StepKind::kMaskRows, Value::kHidden, Value::kHidden),
                          {.kind = StepKind::kTable, .slot = Slot::kRelativeEmbedding, .out = Value::kRelative}});
  if (has_norm(config)) stack.prologue.push_back(norm(Slot::kRelativeNorm, Value::kRelative, Value::kRelative));

  std::vector<Step> attention = attention_steps(Value::kHidden);
  attention.insert(attention.begin() + 3, {linear(Slot::kQProj, Value::kRelative, Value::kRelativeQuery),
                                           linear(Slot::kKProj, Value::kRelative, Value::kRelativeKey)});
  for (Step& step : attention)
    if (step.kind == StepKind::kAttention)
      step.in = {Value::kQuery, Value::kKey, Value::kValue, Value::kRelativeQuery, Value::kRelativeKey};
  stack.block = post_norm_block(mlp_steps(read_activation(config, "hidden_act", "gelu"), Value::kHidden), attention);
  AttentionSpec a = stack.layers[0].attention;
  a.disentangled = read_disentangled(config);
  const int terms = 1 + (a.disentangled.content_to_position ? 1 : 0) + (a.disentangled.position_to_content ? 1 : 0);
  a.scale = 1.0F / std::sqrt(static_cast<float>(a.head_dim * terms));
  stack.layers = plain_layers(static_cast<std::int64_t>(stack.layers.size()), a);

  const std::vector<Step> pooler = {
      simple_step(StepKind::kSelectFirst, Value::kHidden, Value::kPooled), linear(Slot::kPooler, Value::kPooled, Value::kPooled),
      activation(read_activation(config, "pooler_hidden_act", "gelu"), Value::kPooled, Value::kPooled)};
  const bool pooled = architecture_of(config) == "DebertaV2ForSequenceClassification";
  set_encoder_head(s, config, "DebertaV2", pooled ? pooler : std::vector<Step>(), {});
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const std::int64_t h = s.hidden_size;
  std::vector<TensorRule> rules;
  for (TensorRule& rule : bert_like_tensors(s, config, "deberta.")) {
    if (rule.slot == Slot::kPositionEmbedding && !has_positions(config)) continue;
    if (rule.slot == Slot::kTokenTypeEmbedding && token_types(config) == 0) continue;
    for (const auto& [slot, name] :
         {std::pair(Slot::kQProj, "query_proj"), {Slot::kKProj, "key_proj"}, {Slot::kVProj, "value_proj"}})
      if (rule.slot == slot) rule.module = std::string("deberta.encoder.layer.{}.attention.self.") + name;
    rules.push_back(std::move(rule));
  }
  rules.push_back({Slot::kRelativeEmbedding,
                   false,
                   "deberta.encoder.rel_embeddings",
                   {2 * s.stacks[0].layers[0].attention.disentangled.span, h}});
  if (has_norm(config)) rules.push_back({Slot::kRelativeNorm, false, "deberta.encoder.LayerNorm", {h}, true, true});
  if (s.head == Head::kSequenceClassification) rules.push_back({Slot::kPooler, false, "pooler.dense", {h, h}, true, true});
  add_encoder_head(rules, s, config);
  return rules;
}

}  // namespace

extern const Family k_deberta_v2;
const Family k_deberta_v2 = {
    "deberta-v2",
    "deberta.",
    read_spec,
    tensors,
    "DeBERTa-v2 and v3: disentangled attention",
    "DebertaV2Model DebertaV2ForSequenceClassification DebertaV2ForTokenClassification DebertaV2ForQuestionAnswering"};

}  // namespace quell
