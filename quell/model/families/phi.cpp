// Phi-1, 1.5 and 2 (Li et al. 2023): attention and MLP in parallel behind one norm, partly rotated
// heads, biases everywhere.
#include "quell/model/llama_like.h"

namespace quell {
namespace {

constexpr DecoderDefaults kDefaults = {.vocab_size = 51200,
                                       .hidden_size = 2048,
                                       .intermediate_size = 8192,
                                       .num_hidden_layers = 24,
                                       .max_position_embeddings = 2048,
                                       .eos_token_id = 2,
                                       .activation = "gelu_new"};

ModelSpec read_spec(const Settings& config) {
  ModelSpec s = rotary_decoder_sizes(config, kDefaults);
  s.norm_eps = read_number(config, "layer_norm_eps", 1e-5);
  if (read_bool(config, "qk_layernorm", false))
    config.refuse("qk_layernorm", "norms over q and k are not supported for phi");

  AttentionSpec attention = read_grouped_attention(config, s.hidden_size, kDefaults);
  read_rotary(config, attention, s.max_position_embeddings,
              {.part = "partial_rotary_factor", .default_part = 0.5});

  Stack stack;
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden)};
  stack.block = {norm(Slot::kAttentionNorm, Value::kHidden, Value::kNormed)};
  append(stack.block, attention_steps(Value::kNormed));
  append(stack.block,
         mlp_steps(read_activation(config, kDefaults.activation_key, kDefaults.activation),
                   Value::kNormed, Value::kBranch2));
  append(stack.block, {add_values(Value::kBranch, Value::kBranch2, Value::kBranch),
                       add_values(Value::kBranch, Value::kHidden, Value::kHidden)});
  stack.epilogue = {norm(Slot::kFinalNorm, Value::kHidden, Value::kHidden)};
  stack.layers = plain_layers(
      read_int(config, "num_hidden_layers", 1, kMaxLayers, kDefaults.num_hidden_layers), attention);
  s.stacks.push_back(std::move(stack));
  set_decoder_head(s, config, "Phi");
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const AttentionSpec& a = s.stacks[0].layers[0].attention;
  const std::int64_t h = s.hidden_size, f = s.intermediate_size, q = a.num_heads * a.head_dim,
                     kv = a.num_kv_heads * a.head_dim;
  const std::string l = "model.layers.{}.";
  std::vector<TensorRule> rules = {
      {Slot::kWordEmbedding, false, "model.embed_tokens", {s.vocab_size, h}},
      {Slot::kAttentionNorm, true, l + "input_layernorm", {h}, true, true},
      {Slot::kQProj, true, l + "self_attn.q_proj", {q, h}, true, true},
      {Slot::kKProj, true, l + "self_attn.k_proj", {kv, h}, true, true},
      {Slot::kVProj, true, l + "self_attn.v_proj", {kv, h}, true, true},
      {Slot::kOutProj, true, l + "self_attn.dense", {h, q}, true, true},
      {Slot::kFc1, true, l + "mlp.fc1", {f, h}, true, true},
      {Slot::kFc2, true, l + "mlp.fc2", {h, f}, true, true},
      {Slot::kFinalNorm, false, "model.final_layernorm", {h}, true, true}};
  add_decoder_head(rules, s, config, false, "lm_head", true);
  return rules;
}

}  // namespace

extern const Family k_phi;
const Family k_phi = {"phi",
                      "model.",
                      read_spec,
                      tensors,
                      "Phi 1 to 2: one norm for attention and MLP, partial rotary",
                      "PhiModel PhiForCausalLM PhiForSequenceClassification"};

}  // namespace quell
