// Mistral (Jiang et al. 2023): LLaMA with a sliding attention window.
#include "quell/model/llama_like.h"

namespace quell {
namespace {

ModelSpec read_spec(const Settings& config) {
  ModelSpec s = llama_like_spec(config);
  Stack& stack = s.stacks[0];
  const std::int64_t window = json_int(config, "sliding_window", 0, std::int64_t{1} << 31, 0);
  stack.layers = windowed_layers(config, static_cast<std::int64_t>(stack.layers.size()), stack.layers[0].attention, window);
  set_decoder_head(s, config, "Mistral");
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  std::vector<TensorRule> rules = llama_like_tensors(s, false, false, false);
  add_decoder_head(rules, s, config, false);
  return rules;
}

}  // namespace

extern const Family k_mistral;
const Family k_mistral = {"mistral",
                          "model.",
                          read_spec,
                          tensors,
                          "Mistral: sliding window",
                          "MistralModel MistralForCausalLM MistralForSequenceClassification"};

}  // namespace quell
