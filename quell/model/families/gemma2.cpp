// Gemma 2 (Gemma Team 2024): norms in front of and behind both branches, norm weights stored less
// 1, soft caps on scores and logits, embeddings times sqrt(hidden_size), a sliding window in every
// other layer.
#include <cmath>

#include "quell/base/error.h"
#include "quell/model/llama_like.h"

namespace quell {
namespace {

constexpr DecoderDefaults kDefaults = {.vocab_size = 256000,
                                       .hidden_size = 2304,
                                       .intermediate_size = 9216,
                                       .num_hidden_layers = 26,
                                       .num_attention_heads = 8,
                                       .num_key_value_heads = 4,
                                       .head_dim = 256,
                                       .max_position_embeddings = 8192,
                                       .pad_token_id = 0,
                                       .eos_token_id = 1,
                                       .activation_key = "hidden_activation",
                                       .activation = "gelu_pytorch_tanh"};

constexpr KeyRule kKeys[] = {
    {"hidden_act"},  // hidden_activation is what counts
    {"use_bidirectional_attention", KeyRule::Effect::kChangesResults, "[null, false]",
     "attention to what follows"},
    {"cache_implementation"},
};

/// 0: none, which null says.
float read_soft_cap(const Settings& config, const char* key, double fallback) {
  const std::optional<double> cap = read_optional_number(config, key, fallback);
  require(!cap || *cap > 0, ErrorCode::kInvalidInput, "key \"", key,
          "\": must be positive, or null for none");
  return static_cast<float>(cap.value_or(0));
}

ModelSpec read_spec(const Settings& config) {
  ModelSpec s = llama_like_spec(config, kDefaults);
  Stack& stack = s.stacks[0];
  stack.prologue.push_back(
      scaled(std::sqrt(static_cast<float>(s.hidden_size)), Value::kHidden, Value::kHidden));
  const ActivationKind act =
      read_activation(config, kDefaults.activation_key, kDefaults.activation);
  std::vector<Step> attention = attention_steps(Value::kNormed);
  std::vector<Step> mlp = gated_mlp_steps(act, Value::kNormed);
  attention.push_back(norm(Slot::kPostAttentionNorm, Value::kBranch, Value::kBranch));
  mlp.push_back(norm(Slot::kPostFfnNorm, Value::kBranch, Value::kBranch));
  stack.block = pre_norm_block(mlp, attention);

  AttentionSpec a = stack.layers[0].attention;
  const double query_scale = read_number(config, "query_pre_attn_scalar", 256);
  require(query_scale > 0, ErrorCode::kInvalidInput,
          "key \"query_pre_attn_scalar\": must be positive");
  a.scale = 1.0F / std::sqrt(static_cast<float>(query_scale));
  a.soft_cap = read_soft_cap(config, "attn_logit_softcapping", 50);

  const std::size_t count = stack.layers.size();
  std::vector<bool> every_other(count);
  for (std::size_t i = 0; i < count; i += 2) every_other[i] = true;
  stack.layers = plain_layers(static_cast<std::int64_t>(count), a);
  set_windows(stack.layers, read_layer_types(config, count).value_or(every_other),
              read_optional_int(config, "sliding_window", 1, std::int64_t{1} << 31, 4096));

  set_decoder_head(s, config, "Gemma2");
  const float cap = read_soft_cap(config, "final_logit_softcapping", 30);
  if (cap > 0 && s.head == Head::kCausalLm)
    s.head_steps.push_back(simple_step(StepKind::kSoftCap, Value::kLogits, Value::kLogits, cap));
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const bool bias = read_bool(config, "attention_bias", false);
  std::vector<TensorRule> rules = llama_like_tensors(s, bias, bias, false);
  const std::string l = "model.layers.{}.";
  for (TensorRule& rule : rules)
    if (rule.slot == Slot::kFfnNorm) rule.module = l + "pre_feedforward_layernorm";
  rules.push_back(
      {Slot::kPostAttentionNorm, true, l + "post_attention_layernorm", {s.hidden_size}});
  rules.push_back({Slot::kPostFfnNorm, true, l + "post_feedforward_layernorm", {s.hidden_size}});
  for (TensorRule& rule : rules) rule.packing.plus_one = rule.shape.rank() == 1;
  add_decoder_head(rules, s, config, true);
  return rules;
}

}  // namespace

extern const Family k_gemma2;
const Family k_gemma2 = {
    "gemma2",
    "model.",
    read_spec,
    tensors,
    "Gemma 2: norms around both branches, soft caps, windows in every other layer",
    "Gemma2Model Gemma2ForCausalLM Gemma2ForSequenceClassification",
    kKeys};

}  // namespace quell
