// Qwen3 (Yang et al. 2025): LLaMA with an RMSNorm over each head of q and k in front of the
// rotation.
#include "quell/model/llama_like.h"

namespace quell {
namespace {

ModelSpec read_spec(const Settings& config) {
  ModelSpec s = llama_like_spec(config, {.vocab_size = 151936,
                                         .intermediate_size = 22016,
                                         .num_key_value_heads = 32,
                                         .head_dim = 128,
                                         .max_position_embeddings = 32768});
  set_qwen_windows(config, s);
  std::vector<Step> attention = attention_steps(Value::kNormed);
  const Step q_norm = {.kind = StepKind::kHeadNorm,
                       .slot = Slot::kQNorm,
                       .in = {Value::kQuery},
                       .out = Value::kQuery};
  const Step k_norm = {
      .kind = StepKind::kHeadNorm, .slot = Slot::kKNorm, .in = {Value::kKey}, .out = Value::kKey};
  attention.insert(attention.begin() + 3, {q_norm, k_norm});
  s.stacks[0].block = pre_norm_block(
      gated_mlp_steps(read_activation(config, "hidden_act", "silu"), Value::kNormed), attention);
  set_decoder_head(s, config, "Qwen3");
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const bool bias = read_bool(config, "attention_bias", false);
  std::vector<TensorRule> rules = llama_like_tensors(s, bias, bias, false);
  const std::int64_t head_dim = s.stacks[0].layers[0].attention.head_dim;
  rules.push_back({Slot::kQNorm, true, "model.layers.{}.self_attn.q_norm", {head_dim}});
  rules.push_back({Slot::kKNorm, true, "model.layers.{}.self_attn.k_norm", {head_dim}});
  add_decoder_head(rules, s, config, false);
  return rules;
}

}  // namespace

extern const Family k_qwen3;
const Family k_qwen3 = {"qwen3",
                        "model.",
                        read_spec,
                        tensors,
                        "Qwen 3: norms over the heads of q and k",
                        "Qwen3Model Qwen3ForCausalLM Qwen3ForSequenceClassification"};

}  // namespace quell
