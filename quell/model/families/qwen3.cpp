// Qwen3 (Yang et al. 2025): LLaMA with an RMSNorm over each head of q and k in front of the
// rotation.
#include "quell/model/llama_like.h"

namespace quell {
namespace {

void build(ModelBuilder& g, const Config& c) {
  const DecoderSizes sizes = read_llama_like(g, c,
                                             {.vocab_size = 151936,
                                              .intermediate_size = 22016,
                                              .num_key_value_heads = 32,
                                              .head_dim = 128,
                                              .max_position_embeddings = 32768});
  const bool bias = read_bool(c, "attention_bias", false);
  const ValueId h = build_llama_like(g, sizes,
                                     {.qkv_bias = bias,
                                      .out_bias = bias,
                                      .head_norms = true,
                                      .windows = read_qwen_windows(c, sizes.num_layers)});
  build_decoder_head(g, c, "Qwen3", h, {.table = "model.embed_tokens"});
}

}  // namespace

extern const Family k_qwen3;
const Family k_qwen3 = {"qwen3", "model.", build, "Qwen 3: norms over the heads of q and k",
                        "Qwen3Model Qwen3ForCausalLM Qwen3ForSequenceClassification"};

}  // namespace quell
