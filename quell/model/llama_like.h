// What LLaMA and the families after it share: RMSNorm, rotary positions, grouped-query attention, a
// gated MLP.
#pragma once

#include "quell/model/blocks.h"
#include "quell/model/family.h"

namespace quell {

/// What the class of a family takes where config.json says nothing. Sizes of LLaMA; families name
/// what differs.
struct DecoderDefaults {
  std::int64_t vocab_size = 32000;
  std::int64_t hidden_size = 4096;
  std::int64_t intermediate_size = 11008;
  std::int64_t num_hidden_layers = 32;
  std::int64_t num_attention_heads = 32;
  /// None: as many as attention heads.
  std::optional<std::int64_t> num_key_value_heads = std::nullopt;
  std::optional<std::int64_t> head_dim = std::nullopt;  ///< none: hidden_size by the heads
  std::int64_t max_position_embeddings = 2048;
  std::optional<std::int64_t> pad_token_id = std::nullopt;
  std::optional<std::int64_t> eos_token_id = std::nullopt;
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
};

/// What decoders with rotary positions spell alike, for callers: vocab_size, hidden_size,
/// intermediate_size, max_position_embeddings, special ids.
void read_decoder_sizes(ModelBuilder& g, const Config& config, const DecoderDefaults& defaults);
/// Causal, with head_dim and num_key_value_heads. Throws Error(kInvalidInput) where they do not
/// divide num_attention_heads.
AttentionRecipe read_grouped_attention(const Config& config, std::int64_t hidden_size,
                                       const DecoderDefaults& defaults);
/// Positions count the tokens whose mask is 1.
inline constexpr PositionAttributes kMaskPositions = {PositionRule::kMaskCount};

/// What every layer of such a decoder is made of.
struct DecoderSizes {
  std::int64_t num_layers = 0;
  AttentionRecipe attention;
  NormAttributes norm;
  ActivationKind activation = ActivationKind::kSilu;
};
/// LLaMA's: RMSNorm, causal rotary attention, gated MLP.
DecoderSizes read_llama_like(ModelBuilder& g, const Config& config,
                             const DecoderDefaults& defaults);

/// What families of LLaMA's kind differ in.
struct LlamaVariant {
  bool qkv_bias = false;
  bool out_bias = false;
  bool mlp_bias = false;
  bool head_norms = false;                 ///< over the heads of q and k (Qwen 3)
  bool sub_norms = false;                  ///< in front of o_proj and down_proj (BitNet)
  std::vector<std::int64_t> windows = {};  ///< by layer, 0: none; empty: no layer has one
};
/// Embedding, layers and final norm: the last hidden states.
ValueId build_llama_like(ModelBuilder& g, const DecoderSizes& sizes, const LlamaVariant& variant);

/// Windows of Qwen: in the layers that layer_types names, else in those from max_window_layers on,
/// if use_sliding_window says so.
std::vector<std::int64_t> read_qwen_windows(const Config& config, std::int64_t num_layers);

}  // namespace quell
