// DeBERTa-v2 and v3 (He et al. 2021): BERT with disentangled attention. Queries and keys of the
// relative positions come from q_proj and k_proj themselves (share_att_key), which therefore read
// two values.
#include <algorithm>
#include <cmath>
#include <string>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/model/bert_like.h"

namespace quell {
namespace {

constexpr EncoderDefaults kDefaults = {.vocab_size = 128100,
                                       .hidden_size = 1536,
                                       .intermediate_size = 6144,
                                       .num_hidden_layers = 24,
                                       .num_attention_heads = 24,
                                       .type_vocab_size = 0,
                                       .norm_eps = 1e-7};

constexpr KeyRule::Effect kChanges = KeyRule::Effect::kChangesResults;
constexpr KeyRule kKeys[] = {
    {"legacy"},  // of a head that is not supported
    {"conv_act"},
    {"conv_groups"},
    {"share_att_key"},  // read where it counts, with relative_attention
    {"position_buckets"},
    {"max_relative_positions"},
    {"norm_rel_ebd"},
    {"conv_kernel_size", kChanges, "[null, 0]", "a convolution behind the first layer"},
};

/// Keys that make sense with one value alone.
void check_sizes(const Settings& config, const ModelSpec& s) {
  const std::int64_t head_dim = s.stacks[0].layers[0].attention.head_dim;
  for (const auto& [key, expected] : {std::pair("attention_head_size", head_dim),
                                      {"embedding_size", s.hidden_size},
                                      {"pooler_hidden_size", s.hidden_size}})
    if (read_int(config, key, 1, kMaxDim, expected) != expected)
      config.refuse(key, "only " + std::to_string(expected) + " is supported here");
}

bool is_relative(const Settings& config) { return read_bool(config, "relative_attention", false); }

std::vector<std::string> position_terms(const Settings& config) {
  const Json& types = config.value("pos_att_type");
  std::string all;  // "p2c|c2p" in older files
  if (types.is_string()) all = types.get<std::string>();
  for (const Json& type : types.is_array() ? types : Json::array())
    all += "|" + type.get<std::string>();

  std::vector<std::string> terms;
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t end = std::min(all.find('|', at), all.size());
    std::string term = all.substr(at, end - at);
    std::erase(term, ' ');
    if (!term.empty()) terms.push_back(term);
    at = end + 1;
  }
  for (const std::string& term : terms)
    if (term != "c2p" && term != "p2c")
      config.refuse("pos_att_type", "\"" + term + "\" is not supported");
  return terms;
}

/// Terms of the scores; with `span` 0 where positions are not relative, which leaves the scale
/// alone.
DisentangledSpec read_disentangled(const Settings& config, std::int64_t max_position_embeddings) {
  DisentangledSpec d;
  const std::vector<std::string> terms = position_terms(config);
  d.content_to_position = std::find(terms.begin(), terms.end(), "c2p") != terms.end();
  d.position_to_content = std::find(terms.begin(), terms.end(), "p2c") != terms.end();
  if (!is_relative(config)) return d;

  if (!read_bool(config, "share_att_key", false))
    config.refuse("share_att_key",
                  "matrices of their own for relative positions are not supported");
  d.max_distance = read_int(config, "max_relative_positions", -kMaxDim, kMaxDim, -1);
  if (d.max_distance < 1) d.max_distance = max_position_embeddings;
  d.buckets =
      std::max<std::int64_t>(0, read_int(config, "position_buckets", -kMaxDim, kMaxDim, -1));
  d.span = d.buckets > 0 ? d.buckets : d.max_distance;
  return d;
}

bool has_norm(const Settings& config) {
  return is_relative(config) &&
         read_string(config, "norm_rel_ebd", "none").find("layer_norm") != std::string::npos;
}
std::int64_t token_types(const Settings& config) {
  return read_int(config, "type_vocab_size", 0, kMaxDim, 0);
}
bool has_positions(const Settings& config) {
  return read_bool(config, "position_biased_input", true);
}

ModelSpec read_spec(const Settings& config) {
  ModelSpec s = bert_like_spec(config, kDefaults);
  check_sizes(config, s);
  Stack& stack = s.stacks[0];
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden)};
  for (const auto& [wanted, slot] : {std::pair(has_positions(config), Slot::kPositionEmbedding),
                                     {token_types(config) > 0, Slot::kTokenTypeEmbedding}})
    if (wanted)
      append(stack.prologue, {embedding(slot, Value::kEmbedded),
                              add_values(Value::kHidden, Value::kEmbedded, Value::kHidden)});
  append(stack.prologue, {norm(Slot::kEmbeddingNorm, Value::kHidden, Value::kHidden),
                          simple_step(StepKind::kMaskRows, Value::kHidden, Value::kHidden)});
  if (is_relative(config))
    stack.prologue.push_back(
        {.kind = StepKind::kTable, .slot = Slot::kRelativeEmbedding, .out = Value::kRelative});
  if (has_norm(config))
    stack.prologue.push_back(norm(Slot::kRelativeNorm, Value::kRelative, Value::kRelative));

  std::vector<Step> attention = attention_steps(Value::kHidden);
  if (is_relative(config))
    attention.insert(attention.begin() + 3,
                     {linear(Slot::kQProj, Value::kRelative, Value::kRelativeQuery),
                      linear(Slot::kKProj, Value::kRelative, Value::kRelativeKey)});
  for (Step& step : attention)
    if (step.kind == StepKind::kAttention && is_relative(config))
      step.in = {Value::kQuery, Value::kKey, Value::kValue, Value::kRelativeQuery,
                 Value::kRelativeKey};
  stack.block = post_norm_block(
      mlp_steps(read_activation(config, "hidden_act", kDefaults.activation), Value::kHidden),
      attention);
  AttentionSpec a = stack.layers[0].attention;
  a.disentangled = read_disentangled(config, s.max_position_embeddings);
  const int terms = 1 + (a.disentangled.content_to_position ? 1 : 0) +
                    (a.disentangled.position_to_content ? 1 : 0);
  a.scale =
      1.0F /
      std::sqrt(static_cast<float>(a.head_dim * terms));  // also where positions are not relative
  if (!is_relative(config)) a.disentangled = {};
  stack.layers = plain_layers(static_cast<std::int64_t>(stack.layers.size()), a);

  const std::vector<Step> pooler = {
      simple_step(StepKind::kSelectFirst, Value::kHidden, Value::kPooled),
      linear(Slot::kPooler, Value::kPooled, Value::kPooled),
      activation(read_activation(config, "pooler_hidden_act", "gelu"), Value::kPooled,
                 Value::kPooled)};
  const bool pooled = architecture_of(config) == "DebertaV2ForSequenceClassification";
  set_encoder_head(s, config, "DebertaV2", pooled ? pooler : std::vector<Step>(), {});
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const std::int64_t h = s.hidden_size;
  std::vector<TensorRule> rules;
  for (TensorRule& rule : bert_like_tensors(s, config, "deberta.", kDefaults)) {
    if (rule.slot == Slot::kPositionEmbedding && !has_positions(config)) continue;
    if (rule.slot == Slot::kTokenTypeEmbedding && token_types(config) == 0) continue;
    for (const auto& [slot, name] : {std::pair(Slot::kQProj, "query_proj"),
                                     {Slot::kKProj, "key_proj"},
                                     {Slot::kVProj, "value_proj"}})
      if (rule.slot == slot)
        rule.module = std::string("deberta.encoder.layer.{}.attention.self.") + name;
    rules.push_back(std::move(rule));
  }
  if (const std::int64_t span = s.stacks[0].layers[0].attention.disentangled.span; span > 0)
    rules.push_back(
        {Slot::kRelativeEmbedding, false, "deberta.encoder.rel_embeddings", {2 * span, h}});
  if (has_norm(config))
    rules.push_back({Slot::kRelativeNorm, false, "deberta.encoder.LayerNorm", {h}, true, true});
  if (s.head == Head::kSequenceClassification)
    rules.push_back({Slot::kPooler, false, "pooler.dense", {h, h}, true, true});
  add_encoder_head(rules, s, config);
  return rules;
}

}  // namespace

extern const Family k_deberta_v2;
const Family k_deberta_v2 = {"deberta-v2",
                             "deberta.",
                             read_spec,
                             tensors,
                             "DeBERTa-v2 and v3: disentangled attention",
                             "DebertaV2Model DebertaV2ForSequenceClassification "
                             "DebertaV2ForTokenClassification DebertaV2ForQuestionAnswering",
                             kKeys};

}  // namespace quell
