#include "quell/model/llama_like.h"

#include "quell/base/error.h"

namespace quell {

ModelSpec rotary_decoder_sizes(const Settings& config, const DecoderDefaults& defaults) {
  ModelSpec s;
  s.vocab_size = read_int(config, "vocab_size", 1, kMaxDim, defaults.vocab_size);
  s.hidden_size = read_int(config, "hidden_size", 1, kMaxDim, defaults.hidden_size);
  s.intermediate_size =
      read_int(config, "intermediate_size", 1, kMaxDim, defaults.intermediate_size);
  s.max_position_embeddings = read_int(config, "max_position_embeddings", 1, std::int64_t{1} << 31,
                                       defaults.max_position_embeddings);
  s.position_rule = PositionRule::kMaskCount;
  read_special_ids(config, s, defaults.pad_token_id, defaults.eos_token_id);
  return s;
}

AttentionSpec read_grouped_attention(const Settings& config, std::int64_t hidden_size,
                                     const DecoderDefaults& defaults) {
  AttentionSpec attention = read_attention_with_head_dim(
      config, hidden_size, defaults.num_attention_heads, defaults.head_dim);
  attention.num_kv_heads =
      read_optional_int(config, "num_key_value_heads", 1, kMaxHeads, defaults.num_key_value_heads)
          .value_or(attention.num_heads);
  require(attention.num_heads % attention.num_kv_heads == 0, ErrorCode::kInvalidInput,
          "key \"num_key_value_heads\": ", attention.num_kv_heads,
          " does not divide num_attention_heads ", attention.num_heads);
  attention.causal = true;
  return attention;
}

ModelSpec llama_like_spec(const Settings& config, const DecoderDefaults& defaults) {
  ModelSpec s = rotary_decoder_sizes(config, defaults);
  s.norm_kind = NormKind::kRmsNorm;
  s.norm_eps = read_number(config, "rms_norm_eps", 1e-6);
  AttentionSpec attention = read_grouped_attention(config, s.hidden_size, defaults);
  read_rotary(config, attention, s.max_position_embeddings);

  Stack stack;
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden)};
  const ActivationKind act = read_activation(config, defaults.activation_key, defaults.activation);
  stack.block = pre_norm_block(gated_mlp_steps(act, Value::kNormed));
  stack.epilogue = {norm(Slot::kFinalNorm, Value::kHidden, Value::kHidden)};
  stack.layers = plain_layers(
      read_int(config, "num_hidden_layers", 1, kMaxLayers, defaults.num_hidden_layers), attention);
  s.stacks.push_back(std::move(stack));
  return s;
}

void set_qwen_windows(const Settings& config, ModelSpec& s) {
  std::vector<LayerRef>& layers = s.stacks[0].layers;
  auto window = read_optional_int(config, "sliding_window", 1, std::int64_t{1} << 31, 4096);
  const auto first =
      static_cast<std::size_t>(read_int(config, "max_window_layers", 0, kMaxDim, 28));
  if (!read_bool(config, "use_sliding_window", false)) window = std::nullopt;

  std::vector<bool> windowed(layers.size(), false);
  for (std::size_t i = first; i < layers.size() && window; ++i) windowed[i] = true;
  set_windows(layers, read_layer_types(config, layers.size()).value_or(windowed), window);
}

std::vector<TensorRule> llama_like_tensors(const ModelSpec& s, bool qkv_bias, bool out_bias,
                                           bool mlp_bias) {
  const AttentionSpec& a = s.stacks[0].layers[0].attention;
  const std::int64_t h = s.hidden_size, f = s.intermediate_size, q = a.num_heads * a.head_dim,
                     kv = a.num_kv_heads * a.head_dim;
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
