// What LLaMA and the families after it share: RMSNorm, rotary positions, grouped-query attention, a
// gated MLP, and tensor names.
#pragma once

#include "quell/model/family.h"

namespace quell {

/// What the class of a family takes where config.json says nothing. Sizes of LLaMA; families name
/// what differs.
struct DecoderDefaults {
  std::int64_t vocab_size = 32000, hidden_size = 4096, intermediate_size = 11008,
               num_hidden_layers = 32, num_attention_heads = 32;
  std::optional<std::int64_t> num_key_value_heads =
      std::nullopt;                                     ///< none: as many as attention heads
  std::optional<std::int64_t> head_dim = std::nullopt;  ///< none: hidden_size by the heads
  std::int64_t max_position_embeddings = 2048;
  std::optional<std::int64_t> pad_token_id = std::nullopt, eos_token_id = std::nullopt;
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
};

/// What decoders with rotary positions spell alike: vocab_size, hidden_size, intermediate_size,
/// max_position_embeddings, special ids; positions count the tokens whose mask is 1.
ModelSpec rotary_decoder_sizes(const Settings& config, const DecoderDefaults& defaults);
/// Causal, with head_dim and num_key_value_heads. Throws Error(kInvalidInput) where they do not
/// divide num_attention_heads.
AttentionSpec read_grouped_attention(const Settings& config, std::int64_t hidden_size,
                                     const DecoderDefaults& defaults);

/// Sizes, norms, attention (causal, rotary) and a pre-norm stack of plain layers; no head.
ModelSpec llama_like_spec(const Settings& config, const DecoderDefaults& defaults);
/// Windows of Qwen: in the layers that layer_types names, else in those from max_window_layers on,
/// if use_sliding_window says so.
void set_qwen_windows(const Settings& config, ModelSpec& spec);
/// Weights of that stack. `qkv_bias`, `out_bias`, `mlp_bias`: which linears have biases.
std::vector<TensorRule> llama_like_tensors(const ModelSpec& spec, bool qkv_bias, bool out_bias,
                                           bool mlp_bias);

}  // namespace quell
