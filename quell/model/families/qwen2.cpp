// Qwen2 and Qwen2.5 (Yang et al. 2024): LLaMA with biases on q, k and v, and windows only where
// they are switched on.
#include "quell/model/llama_like.h"

namespace quell {
namespace {

ModelSpec read_spec(const Settings& config) {
  ModelSpec s = llama_like_spec(config, {.vocab_size = 151936,
                                         .intermediate_size = 22016,
                                         .num_key_value_heads = 32,
                                         .max_position_embeddings = 32768});
  set_qwen_windows(config, s);
  set_decoder_head(s, config, "Qwen2");
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  std::vector<TensorRule> rules = llama_like_tensors(s, true, false, false);
  add_decoder_head(rules, s, config, false);
  return rules;
}

}  // namespace

extern const Family k_qwen2;
const Family k_qwen2 = {"qwen2",
                        "model.",
                        read_spec,
                        tensors,
                        "Qwen 2 and 2.5: biases on q, k, v",
                        "Qwen2Model Qwen2ForCausalLM Qwen2ForSequenceClassification"};

}  // namespace quell
