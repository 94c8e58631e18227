// LLaMA (Touvron et al. 2023): pre-norm decoder with RMSNorm, rotary positions, grouped-query attention and a gated MLP.
#include "quell/base/error.h"
#include "quell/model/family.h"

namespace quell {
namespace {

ModelSpec read_spec(const Json& config) {
  const std::string name = architecture_of(config);
  require(name.empty() || name == "LlamaForCausalLM" || name == "LlamaModel", ErrorCode::kUnsupported, "architecture \"", name,
          "\" is not supported for llama");
  ModelSpec s;
  s.vocab_size = json_int(config, "vocab_size", 1, kMaxDim);
  s.hidden_size = json_int(config, "hidden_size", 1, kMaxDim);
  s.intermediate_size = json_int(config, "intermediate_size", 1, kMaxDim);
  s.max_position_embeddings = json_int(config, "max_position_embeddings", 1, std::int64_t{1} << 31, 2048);
  s.pad_token_id = static_cast<std::int32_t>(json_int(config, "pad_token_id", -1, kMaxDim, 0));
  if (s.pad_token_id < 0) s.pad_token_id = 0;
  s.norm_kind = NormKind::kRmsNorm;
  s.norm_eps = json_number(config, "rms_norm_eps", 1e-6);
  s.position_rule = PositionRule::kMaskCount;

  AttentionSpec attention = read_attention(config, s.hidden_size);
  attention.num_kv_heads = json_int(config, "num_key_value_heads", 1, attention.num_heads, attention.num_heads);
  require(attention.num_heads % attention.num_kv_heads == 0, ErrorCode::kInvalidInput,
          "key \"num_key_value_heads\": ", attention.num_kv_heads, " does not divide num_attention_heads ", attention.num_heads);
  attention.causal = true;
  read_rotary(config, attention);

  Stack stack;
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden)};
  stack.block = pre_norm_block(gated_mlp_steps(read_activation(config, "hidden_act", "silu"), Value::kNormed));
  stack.epilogue = {norm(Slot::kFinalNorm, Value::kHidden, Value::kHidden)};
  stack.layers = plain_layers(json_int(config, "num_hidden_layers", 1, kMaxLayers), attention);
  s.stacks.push_back(std::move(stack));

  set_causal_lm_head(s);
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Json& config) {
  const AttentionSpec& a = s.stacks[0].layers[0].attention;
  const std::int64_t h = s.hidden_size, f = s.intermediate_size, q = a.num_heads * a.head_dim, kv = a.num_kv_heads * a.head_dim;
  const bool attention_bias = json_bool(config, "attention_bias", false), mlp_bias = json_bool(config, "mlp_bias", false);
  const bool tied = json_bool(config, "tie_word_embeddings", false);
  const std::string l = "model.layers.{}.";
  return {{Slot::kWordEmbedding, false, "model.embed_tokens", {s.vocab_size, h}},
          {Slot::kAttentionNorm, true, l + "input_layernorm", {h}},
          {Slot::kQProj, true, l + "self_attn.q_proj", {q, h}, true, attention_bias},
          {Slot::kKProj, true, l + "self_attn.k_proj", {kv, h}, true, attention_bias},
          {Slot::kVProj, true, l + "self_attn.v_proj", {kv, h}, true, attention_bias},
          {Slot::kOutProj, true, l + "self_attn.o_proj", {h, q}, true, attention_bias},
          {Slot::kFfnNorm, true, l + "post_attention_layernorm", {h}},
          {Slot::kGateProj, true, l + "mlp.gate_proj", {f, h}, true, mlp_bias},
          {Slot::kUpProj, true, l + "mlp.up_proj", {f, h}, true, mlp_bias},
          {Slot::kDownProj, true, l + "mlp.down_proj", {h, f}, true, mlp_bias},
          {Slot::kFinalNorm, false, "model.norm", {h}},
          {Slot::kLmHead, false, "lm_head", {s.vocab_size, h}, true, false, tied ? Slot::kWordEmbedding : Slot::kNone}};
}

}  // namespace

extern const Family k_llama;
const Family k_llama = {"llama", "model.", read_spec, tensors};

}  // namespace quell
