// GPT-NeoX and Pythia (Black et al. 2022): attention and MLP in parallel behind two norms (or in
// series), partly rotated heads, q, k and v of each head side by side in one matrix.
#include "quell/io/json.h"
#include "quell/model/llama_like.h"

namespace quell {
namespace {

constexpr DecoderDefaults kDefaults = {.vocab_size = 50432,
                                       .hidden_size = 6144,
                                       .intermediate_size = 24576,
                                       .num_hidden_layers = 44,
                                       .num_attention_heads = 64,
                                       .max_position_embeddings = 2048,
                                       .eos_token_id = 2,
                                       .activation = "gelu"};

constexpr KeyRule kKeys[] = {{"is_decoder"}};  // it always is one

/// h += attn(norm1 h) + mlp(norm2 h).
std::vector<Step> parallel_block(ActivationKind act) {
  std::vector<Step> block = {norm(Slot::kAttentionNorm, Value::kHidden, Value::kNormed)};
  append(block, attention_steps(Value::kNormed));
  block.push_back(norm(Slot::kFfnNorm, Value::kHidden, Value::kNormed));
  append(block, mlp_steps(act, Value::kNormed, Value::kBranch2));
  append(block, {add_values(Value::kBranch2, Value::kBranch, Value::kBranch),
                 add_values(Value::kBranch, Value::kHidden, Value::kHidden)});
  return block;
}

ModelSpec read_spec(const Settings& config) {
  ModelSpec s = rotary_decoder_sizes(config, kDefaults);
  s.norm_eps = read_number(config, "layer_norm_eps", 1e-5);

  AttentionSpec attention = read_attention(config, s.hidden_size, kDefaults.num_attention_heads);
  attention.causal = true;
  if (config.has("head_dim") && config.value("head_dim") != attention.head_dim)
    config.refuse("head_dim",
                  "heads of gpt_neox have hidden_size / num_attention_heads dimensions");
  read_rotary(config, attention, s.max_position_embeddings,
              {.theta = "rotary_emb_base", .part = "rotary_pct", .default_part = 0.25});

  Stack stack;
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden)};
  const ActivationKind act =
      read_activation(config, kDefaults.activation_key, kDefaults.activation);
  stack.block = read_bool(config, "use_parallel_residual", true)
                    ? parallel_block(act)
                    : pre_norm_block(mlp_steps(act, Value::kNormed));
  stack.epilogue = {norm(Slot::kFinalNorm, Value::kHidden, Value::kHidden)};
  stack.layers = plain_layers(
      read_int(config, "num_hidden_layers", 1, kMaxLayers, kDefaults.num_hidden_layers), attention);
  s.stacks.push_back(std::move(stack));
  set_decoder_head(s, config, "GPTNeoX");
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const std::int64_t h = s.hidden_size, f = s.intermediate_size,
                     heads = s.stacks[0].layers[0].attention.num_heads;
  const bool bias = read_bool(config, "attention_bias", true);
  const std::string g = "gpt_neox.", l = g + "layers.{}.", qkv = l + "attention.query_key_value";
  const auto part = [&](int i) {
    return Packing{.part = i, .parts = 3, .interleaved_heads = heads};
  };
  std::vector<TensorRule> rules = {
      {Slot::kWordEmbedding, false, g + "embed_in", {s.vocab_size, h}},
      {Slot::kAttentionNorm, true, l + "input_layernorm", {h}, true, true},
      TensorRule{Slot::kQProj, true, qkv, {h, h}, true, bias}.packed(part(0)),
      TensorRule{Slot::kKProj, true, qkv, {h, h}, true, bias}.packed(part(1)),
      TensorRule{Slot::kVProj, true, qkv, {h, h}, true, bias}.packed(part(2)),
      {Slot::kOutProj, true, l + "attention.dense", {h, h}, true, bias},
      {Slot::kFfnNorm, true, l + "post_attention_layernorm", {h}, true, true},
      {Slot::kFc1, true, l + "mlp.dense_h_to_4h", {f, h}, true, true},
      {Slot::kFc2, true, l + "mlp.dense_4h_to_h", {h, f}, true, true},
      {Slot::kFinalNorm, false, g + "final_layer_norm", {h}, true, true}};
  add_decoder_head(rules, s, config, false, "embed_out");
  return rules;
}

}  // namespace

extern const Family k_gpt_neox;
const Family k_gpt_neox = {"gpt_neox",
                           "gpt_neox.",
                           read_spec,
                           tensors,
                           "GPT-NeoX, Pythia: parallel or serial residual, partial rotary",
                           "GPTNeoXModel GPTNeoXForCausalLM GPTNeoXForSequenceClassification",
                           kKeys};

}  // namespace quell
