// BitNet b1.58 (Ma et al. 2024, 2025): LLaMA with squared ReLU gates and norms in front of both
// output projections. Its linears are ternary: model/bitnet_layout.h.
#include "quell/model/llama_like.h"

namespace quell {
namespace {

constexpr DecoderDefaults kDefaults = {.vocab_size = 128256,
                                       .hidden_size = 2560,
                                       .intermediate_size = 6912,
                                       .num_hidden_layers = 30,
                                       .num_attention_heads = 20,
                                       .num_key_value_heads = 5,
                                       .eos_token_id = 128001,
                                       .activation = "relu2",
                                       .rms_norm_eps = 1e-5,
                                       .rope_theta = 500000};

void build(ModelBuilder& g, const Config& c) {
  const DecoderSizes sizes = read_llama_like(g, c, kDefaults);
  const bool bias = read_bool(c, "attention_bias", false);
  const ValueId h =
      build_llama_like(g, sizes, {.qkv_bias = bias, .out_bias = bias, .sub_norms = true});
  build_decoder_head(g, c, "BitNet", h, {.table = "model.embed_tokens"});
}

}  // namespace

extern const Family k_bitnet;
const Family k_bitnet = {"bitnet", "model.", build,
                         "BitNet b1.58: squared ReLU, norms in front of the output projections",
                         "BitNetModel BitNetForCausalLM"};

}  // namespace quell
