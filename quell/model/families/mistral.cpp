// Mistral (Jiang et al. 2023): LLaMA with a sliding attention window.
#include "quell/model/llama_like.h"

namespace quell {
namespace {

ModelSpec read_spec(const Settings& config) {
  ModelSpec s = llama_like_spec(config, {.intermediate_size = 14336,
                                         .num_key_value_heads = 8,
                                         .max_position_embeddings = 131072,
                                         .eos_token_id = 2});
  std::vector<LayerRef>& layers = s.stacks[0].layers;
  const std::vector<bool> all(layers.size(), true);
  const bool some_without = read_layer_types(config, layers.size()).value_or(all) != all;
  if (const auto window =
          read_optional_int(config, "sliding_window", 1, std::int64_t{1} << 31, 4096)) {
    if (some_without)
      config.refuse("layer_types", "the reference gives every layer of mistral the window");
    set_windows(layers, all, window);
  }
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
