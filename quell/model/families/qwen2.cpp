// Qwen2 and Qwen2.5 (Yang et al. 2024): LLaMA with biases on q, k and v, and windows only where
// they are switched on.
#include "quell/model/llama_like.h"

namespace quell {
namespace {

void build(ModelBuilder& g, const Config& c) {
  const DecoderSizes sizes = read_llama_like(g, c,
                                             {.vocab_size = 151936,
                                              .intermediate_size = 22016,
                                              .num_key_value_heads = 32,
                                              .max_position_embeddings = 32768});
  const ValueId h = build_llama_like(
      g, sizes, {.qkv_bias = true, .windows = read_qwen_windows(c, sizes.num_layers)});
  build_decoder_head(g, c, "Qwen2", h, {.table = "model.embed_tokens"});
}

}  // namespace

extern const Family k_qwen2;
const Family k_qwen2 = {"qwen2", "model.", build, "Qwen 2 and 2.5: biases on q, k, v",
                        "Qwen2Model Qwen2ForCausalLM Qwen2ForSequenceClassification"};

}  // namespace quell
