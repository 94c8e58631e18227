// Qwen2 and Qwen2.5 (Yang et al. 2024): LLaMA with biases on q, k and v, and windows only where they are switched on.
#include "quell/model/llama_like.h"

namespace quell {
namespace {

ModelSpec read_spec(const Settings& config) {
  ModelSpec s = llama_like_spec(config);
  if (json_bool(config, "use_sliding_window", false)) {
    const std::int64_t window = json_int(config, "sliding_window", 0, std::int64_t{1} << 31, 0);
    const auto first = static_cast<std::size_t>(json_int(config, "max_window_layers", 0, kMaxLayers, 0));
    std::vector<LayerRef>& layers = s.stacks[0].layers;
    for (std::size_t i = first; i < layers.size(); ++i) layers[i].attention.sliding_window = window;
  }
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
