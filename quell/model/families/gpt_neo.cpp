// GPT-Neo (Black et al. 2021): GPT-2 with local attention in some layers and no scale of the scores.
#include "quell/base/error.h"
#include "quell/model/family.h"

namespace quell {
namespace {

/// "attention_layers", or its short form "attention_types": [[["global", "local"], repeats], ...].
std::vector<std::string> attention_layers(const Settings& config, std::size_t count) {
  std::vector<std::string> names;
  if (const Json& layers = config.value("attention_layers"); layers.is_array()) {
    names = layers.get<std::vector<std::string>>();
  } else if (const Json& types = config.value("attention_types"); types.is_array()) {
    for (const Json& entry : types)
      for (std::int64_t i = 0; i < entry.at(1).get<std::int64_t>() && names.size() < count; ++i)
        for (const Json& name : entry.at(0)) names.push_back(name.get<std::string>());
  } else {
    for (std::size_t i = 0; i < count; ++i) names.emplace_back(i % 2 == 0 ? "global" : "local");
  }
  require(names.size() == count, ErrorCode::kInvalidInput, "key \"attention_layers\": needs one entry a layer");
  return names;
}

ModelSpec read_spec(const Settings& config) {
  ModelSpec s;
  s.vocab_size = json_int(config, "vocab_size", 1, kMaxDim);
  s.hidden_size = json_int(config, "hidden_size", 1, kMaxDim);
  s.intermediate_size = json_int(config, "intermediate_size", 1, kMaxDim, 4 * s.hidden_size);
  s.max_position_embeddings = json_int(config, "max_position_embeddings", 1, kMaxDim, 2048);
  s.norm_eps = json_number(config, "layer_norm_epsilon", 1e-5);
  s.position_rule = PositionRule::kMaskCount;
  read_special_ids(config, s);

  AttentionSpec attention = read_attention(config.with_aliases({{"num_attention_heads", "num_heads"}}), s.hidden_size);
  attention.causal = true;
  attention.scale = 1.0F;

  Stack stack;
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden), embedding(Slot::kPositionEmbedding, Value::kEmbedded),
                    add_values(Value::kHidden, Value::kEmbedded, Value::kHidden)};
  stack.block = pre_norm_block(mlp_steps(read_activation(config, "activation_function", "gelu_new"), Value::kNormed));
  stack.epilogue = {norm(Slot::kFinalNorm, Value::kHidden, Value::kHidden)};
  stack.layers = plain_layers(json_int(config, "num_layers", 1, kMaxLayers), attention);
  const std::vector<std::string> kinds = attention_layers(config, stack.layers.size());
  const std::int64_t window = json_int(config, "window_size", 1, kMaxDim, 256);
  for (std::size_t i = 0; i < kinds.size(); ++i) stack.layers[i].attention.sliding_window = kinds[i] == "local" ? window : 0;
  s.stacks.push_back(std::move(stack));
  set_decoder_head(s, config, "GPTNeo");
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const std::int64_t h = s.hidden_size, f = s.intermediate_size;
  const std::string t = "transformer.", l = t + "h.{}.", a = l + "attn.attention.";
  std::vector<TensorRule> rules = {{Slot::kWordEmbedding, false, t + "wte", {s.vocab_size, h}},
                                   {Slot::kPositionEmbedding, false, t + "wpe", {s.max_position_embeddings, h}},
                                   {Slot::kAttentionNorm, true, l + "ln_1", {h}, true, true},
                                   {Slot::kQProj, true, a + "q_proj", {h, h}},
                                   {Slot::kKProj, true, a + "k_proj", {h, h}},
                                   {Slot::kVProj, true, a + "v_proj", {h, h}},
                                   {Slot::kOutProj, true, a + "out_proj", {h, h}, true, true},
                                   {Slot::kFfnNorm, true, l + "ln_2", {h}, true, true},
                                   {Slot::kFc1, true, l + "mlp.c_fc", {f, h}, true, true},
                                   {Slot::kFc2, true, l + "mlp.c_proj", {h, f}, true, true},
                                   {Slot::kFinalNorm, false, t + "ln_f", {h}, true, true}};
  add_decoder_head(rules, s, config, true);
  return rules;
}

}  // namespace

extern const Family k_gpt_neo;
const Family k_gpt_neo = {"gpt_neo",
                          "transformer.",
                          read_spec,
                          tensors,
                          "GPT-Neo: global and local attention",
                          "GPTNeoModel GPTNeoForCausalLM GPTNeoForSequenceClassification"};

}  // namespace quell
