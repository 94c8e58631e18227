// What LLaMA and the families after it share: RMSNorm, rotary positions, grouped-query attention, a gated MLP, and tensor names.
#pragma once

#include "quell/model/family.h"

namespace quell {

/// Sizes, norms, attention (causal, rotary) and a pre-norm stack of plain layers; no head.
ModelSpec llama_like_spec(const Json& config);
/// Weights of that stack. `qkv_bias`, `out_bias`, `mlp_bias`: which linears have biases.
std::vector<TensorRule> llama_like_tensors(const ModelSpec& spec, bool qkv_bias, bool out_bias, bool mlp_bias);

}  // namespace quell
