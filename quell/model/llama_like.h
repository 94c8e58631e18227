// What LLaMA and the families after it share: RMSNorm, rotary positions, grouped-query attention, a gated MLP, and tensor names.
#pragma once

#include "quell/model/family.h"

namespace quell {

/// What decoders with rotary positions spell alike: vocab_size, hidden_size, intermediate_size, max_position_embeddings, special
/// ids; positions count the tokens whose mask is 1.
ModelSpec rotary_decoder_sizes(const Settings& config);
/// read_attention, causal, with num_key_value_heads. Throws Error(kInvalidInput) where they do not divide num_attention_heads.
AttentionSpec read_grouped_attention(const Settings& config, std::int64_t hidden_size);

/// Sizes, norms, attention (causal, rotary) and a pre-norm stack of plain layers; no head.
ModelSpec llama_like_spec(const Settings& config);
/// Weights of that stack. `qkv_bias`, `out_bias`, `mlp_bias`: which linears have biases.
std::vector<TensorRule> llama_like_tensors(const ModelSpec& spec, bool qkv_bias, bool out_bias, bool mlp_bias);

}  // namespace quell
