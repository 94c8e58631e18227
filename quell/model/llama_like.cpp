#include "quell/model/llama_like.h"

#include "quell/base/error.h"

namespace quell {

ModelSpec rotary_decoder_sizes(const Settings& config) {
  ModelSpec s;
  s.vocab_size = json_int(config, "vocab_size", 1, kMaxDim);
  s.hidden_size = json_int(config, "hidden_size", 1, kMaxDim);
  s.intermediate_size = json_int(config, "intermediate_size", 1, kMaxDim);
  s.max_position_embeddings = json_int(config, "max_position_embeddings", 1, std::int64_t{1} << 31, 2048);
  s.position_rule = PositionRule::kMaskCount;
  read_special_ids(config, s);
  return s;
}

AttentionSpec read_grouped_attention(const Settings& config, std::int64_t hidden_size) {
  AttentionSpec attention = read_attention(config, hidden_size);
  attention.num_kv_heads = json_int(config, "num_key_value_heads", 1, attention.num_heads, attention.num_heads);
  require(attention.num_heads % attention.num_kv_heads == 0, ErrorCode::kInvalidInput,
          "key \"num_key_value_heads\": ", attention.num_kv_heads, " does not divide num_attention_heads ", attention.num_heads);
  attention.causal = true;
  return attention;
}

ModelSpec llama_like_spec(const Settings& config) {
  ModelSpec s = rotary_decoder_sizes(config);
  s.norm_kind = NormKind::kRmsNorm;
  s.norm_eps = json_number(config, "rms_norm_eps", 1e-6);
  AttentionSpec attention = read_grouped_attention(config, s.hidden_size);
  read_rotary(config, attention);

  Stack stack;
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden)};
  const char* key = config.has("hidden_activation") ? "hidden_activation" : "hidden_act";
  stack.block = pre_norm_block(gated_mlp_steps(read_activation(config, key, "silu"), Value::kNormed));
  stack.epilogue = {norm(Slot::kFinalNorm, Value::kHidden, Value::kHidden)};
  stack.layers = plain_layers(json_int(config, "num_hidden_layers", 1, kMaxLayers), attention);
  s.stacks.push_back(std::move(stack));
  return s;
}

std::vector<TensorRule> llama_like_tensors(const ModelSpec& s, bool qkv_bias, bool out_bias, bool mlp_bias) {
  const AttentionSpec& a = s.stacks[0].layers[0].attention;
  const std::int64_t h = s.hidden_size, f = s.intermediate_size, q = a.num_heads * a.head_dim, kv = a.num_kv_heads * a.head_dim;
  const std::string l = "model.layers.{}.";
  return {{Slot::kWordEmbedding, false, "model.embed_tokens", {s.vocab_size, h}},
          {Slot::kAttentionNorm, true, l + "input_layernorm", {h}},
          {Slot::kQProj, true, l + "self_attn.q_proj", {q, h}, true, qkv_bias},
          {Slot::kKProj, true, l + "self_attn.k_proj", {kv, h}, true, qkv_bias},
          {Slot::kVProj, true, l + "self_attn.v_proj", {kv, h}, true, qkv_bias},
          {Slot::kOutProj, true, l + "self_attn.o_proj", {h, q}, true, out_bias},
          {Slot::kFfnNorm, true, l + "post_attention_layernorm", {h}},
          {Slot::kGateProj, true, l + "mlp.gate_proj", {f, h}, true, mlp_bias},
          {Slot::kUpProj, true, l + "mlp.up_proj", {f, h}, true, mlp_bias},
          {Slot::kDownProj, true, l + "mlp.down_proj", {h, f}, true, mlp_bias},
          {Slot::kFinalNorm, false, "model.norm", {h}}};
}

}  // namespace quell
