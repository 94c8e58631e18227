// Gemma 2 (Gemma Team 2024): norms in front of and behind both branches, norm weights stored less 1, soft caps on scores and
// logits, embeddings times sqrt(hidden_size), a sliding window in every other layer.
#include <cmath>

#include "quell/model/llama_like.h"

namespace quell {
namespace {

ModelSpec read_spec(const Settings& config) {
  ModelSpec s = llama_like_spec(config);
  Stack& stack = s.stacks[0];
  stack.prologue.push_back(scaled(std::sqrt(static_cast<float>(s.hidden_size)), Value::kHidden, Value::kHidden));
  std::vector<Step> attention = attention_steps(Value::kNormed),
                    mlp = gated_mlp_steps(
                        read_activation(config, config.contains("hidden_activation") ? "hidden_activation" : "hidden_act",
                                        "gelu_pytorch_tanh"),
                        Value::kNormed);
  attention.push_back(norm(Slot::kPostAttentionNorm, Value::kBranch, Value::kBranch));
  mlp.push_back(norm(Slot::kPostFfnNorm, Value::kBranch, Value::kBranch));
  stack.block = pre_norm_block(mlp, attention);

  AttentionSpec a = stack.layers[0].attention;
  a.scale = 1.0F / std::sqrt(static_cast<float>(json_number(config, "query_pre_attn_scalar", 256)));
  a.soft_cap = static_cast<float>(json_number(config, "attn_logit_softcapping", 0));
  const auto count = static_cast<std::int64_t>(stack.layers.size()),
             window = json_int(config, "sliding_window", 0, std::int64_t{1} << 31, 4096);
  if (config.value("layer_types").is_array()) {
    stack.layers = windowed_layers(config, count, a, window);
  } else {  // older files say only how wide the window of the even layers is
    stack.layers = plain_layers(count, a);
    for (std::size_t i = 0; i < stack.layers.size(); i += 2) stack.layers[i].attention.sliding_window = window;
  }
  set_decoder_head(s, config, "Gemma2");
  if (const double cap = json_number(config, "final_logit_softcapping", 0); cap > 0 && s.head == Head::kCausalLm)
    s.head_steps.push_back(simple_step(StepKind::kSoftCap, Value::kLogits, Value::kLogits, static_cast<float>(cap)));
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const bool bias = json_bool(config, "attention_bias", false);
  std::vector<TensorRule> rules = llama_like_tensors(s, bias, bias, false);
  const std::string l = "model.layers.{}.";
  for (TensorRule& rule : rules)
    if (rule.slot == Slot::kFfnNorm) rule.module = l + "pre_feedforward_layernorm";
  rules.push_back({Slot::kPostAttentionNorm, true, l + "post_attention_layernorm", {s.hidden_size}});
  rules.push_back({Slot::kPostFfnNorm, true, l + "post_feedforward_layernorm", {s.hidden_size}});
  for (TensorRule& rule : rules) rule.packing.plus_one = rule.shape.rank() == 1;
  add_decoder_head(rules, s, config, true);
  return rules;
}

}  // namespace

extern const Family k_gemma2;
const Family k_gemma2 = {"gemma2",
                         "model.",
                         read_spec,
                         tensors,
                         "Gemma 2: norms around both branches, soft caps, windows in every other layer",
                         "Gemma2Model Gemma2ForCausalLM Gemma2ForSequenceClassification"};

}  // namespace quell
