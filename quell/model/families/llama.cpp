// LLaMA (Touvron et al. 2023): pre-norm decoder with RMSNorm, rotary positions, grouped-query
// attention and a gated MLP.
#include "quell/model/llama_like.h"

namespace quell {
namespace {

ModelSpec read_spec(const Settings& config) {
  ModelSpec s = llama_like_spec(config, {.eos_token_id = 2});
  set_decoder_head(s, config, "Llama");
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const bool attention_bias = read_bool(config, "attention_bias", false),
             mlp_bias = read_bool(config, "mlp_bias", false);
  std::vector<TensorRule> rules = llama_like_tensors(s, attention_bias, attention_bias, mlp_bias);
  add_decoder_head(rules, s, config, false);
  return rules;
}

}  // namespace

extern const Family k_llama;
const Family k_llama = {"llama",
                        "model.",
                        read_spec,
                        tensors,
                        "LLaMA 1 to 3, TinyLlama: RMSNorm, rotary, grouped queries, gated MLP",
                        "LlamaModel LlamaForCausalLM LlamaForSequenceClassification"};

}  // namespace quell
