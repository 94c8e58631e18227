// LLaMA (Touvron et al. 2023): pre-norm decoder with RMSNorm, rotary positions, grouped-query
// attention and a gated MLP.
#include "quell/model/llama_like.h"

namespace quell {
namespace {

void build(ModelBuilder& g, const Config& c) {
  const DecoderSizes sizes = read_llama_like(g, c, {.eos_token_id = 2});
  const bool attention_bias = read_bool(c, "attention_bias", false);
  const bool mlp_bias = read_bool(c, "mlp_bias", false);

  const ValueId h = build_llama_like(
      g, sizes, {.qkv_bias = attention_bias, .out_bias = attention_bias, .mlp_bias = mlp_bias});
  build_decoder_head(g, c, "Llama", h, {.table = "model.embed_tokens"});
}

}  // namespace

extern const Family k_llama;
const Family k_llama = {"llama", "model.", build,
                        "LLaMA 1 to 3, TinyLlama: RMSNorm, rotary, grouped queries, gated MLP",
                        "LlamaModel LlamaForCausalLM LlamaForSequenceClassification"};

}  // namespace quell
