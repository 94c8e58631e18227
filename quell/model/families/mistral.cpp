// Mistral (Jiang et al. 2023): LLaMA with a sliding attention window.
#include "quell/model/llama_like.h"

namespace quell {
namespace {

/// The window of every layer, or none.
std::vector<std::int64_t> read_windows(const Config& c, std::int64_t num_layers) {
  const std::vector<bool> all(static_cast<std::size_t>(num_layers), true);
  const bool some_without = read_layer_types(c, num_layers).value_or(all) != all;
  const auto window = read_optional_int(c, "sliding_window", 1, kUnlimitedPositions, 4096);
  if (!window) return {};

  if (some_without)
    c.refuse("layer_types", "the reference gives every layer of mistral the window");
  return windows_of(all, window);
}

void build(ModelBuilder& g, const Config& c) {
  const DecoderSizes sizes = read_llama_like(g, c,
                                             {.intermediate_size = 14336,
                                              .num_key_value_heads = 8,
                                              .max_position_embeddings = 131072,
                                              .eos_token_id = 2});
  const ValueId h = build_llama_like(g, sizes, {.windows = read_windows(c, sizes.num_layers)});
  build_decoder_head(g, c, "Mistral", h, {.table = "model.embed_tokens"});
}

}  // namespace

extern const Family k_mistral;
const Family k_mistral = {"mistral", "model.", build, "Mistral: sliding window",
                          "MistralModel MistralForCausalLM MistralForSequenceClassification"};

}  // namespace quell
