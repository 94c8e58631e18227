// What BERT and its relatives share: sizes, embeddings with a norm behind them, post-norm layers.
#pragma once

#include "quell/model/blocks.h"
#include "quell/model/family.h"

namespace quell {

/// What the class of a family takes where config.json says nothing. BERT's; families name what
/// differs.
struct EncoderDefaults {
  std::int64_t vocab_size = 30522;
  std::int64_t hidden_size = 768;
  std::int64_t intermediate_size = 3072;
  std::int64_t num_hidden_layers = 12;
  std::int64_t num_attention_heads = 12;
  std::int64_t max_position_embeddings = 512;
  const char* norm_eps_key = "layer_norm_eps";  ///< null: the family has one that no key changes
  double norm_eps = 1e-12;
  const char* activation = "gelu";
  std::optional<std::int64_t> pad_token_id = 0;
  std::optional<std::int64_t> eos_token_id = std::nullopt;
};
inline constexpr EncoderDefaults kBertDefaults = {};

/// What every layer of such an encoder is made of.
struct EncoderSizes {
  std::int64_t num_layers = 0;
  AttentionRecipe attention;
  ActivationKind activation = ActivationKind::kGelu;
  double norm_eps = 1e-12;
};
/// From the usual keys; those that callers see go to `g.spec`.
EncoderSizes read_encoder(ModelBuilder& g, const Config& config,
                          const EncoderDefaults& defaults = kBertDefaults);

/// Words, token types and positions, then a norm: [T, embedding_size]. Tables and norm lie in the
/// current scope.
ValueId bert_embeddings(ModelBuilder& g, const Config& config, const EncoderSizes& sizes,
                        const PositionAttributes& positions, std::int64_t position_rows,
                        std::int64_t embedding_size);

/// Names of a post-norm layer, relative to it.
struct EncoderLayerModules {
  const char* query = "attention.self.query";
  const char* key = "attention.self.key";
  const char* value = "attention.self.value";
  const char* out = "attention.output.dense";
  const char* attention_norm = "attention.output.LayerNorm";
  const char* fc1 = "intermediate.dense";
  const char* fc2 = "output.dense";
  const char* ffn_norm = "output.LayerNorm";

  AttentionModules attention() const { return {query, key, value, out}; }
};
/// h = norm(h + attn h); h = norm(h + mlp h).
ValueId post_norm_layer(ModelBuilder& g, const EncoderSizes& sizes, ValueId h,
                        const EncoderLayerModules& modules = {});

/// First token, dense, activation. `module` is absolute.
ValueId first_token_pooler(ModelBuilder& g, ValueId h, const std::string& module,
                           ActivationKind kind = ActivationKind::kTanh);

/// Names of a masked language model's head, absolute.
struct MaskedLmModules {
  std::string dense = {};
  std::string norm = {};
  std::string decoder = {};
  std::string bias_name = {};  ///< of the decoder's bias, where it is not its own
  std::string table = {};      ///< of the token embedding, to which the decoder is tied by default
};
/// Dense to `size` columns, activation, norm, output matrix.
ValueId masked_lm_head(ModelBuilder& g, const Config& config, ValueId h, std::int64_t size,
                       ActivationKind kind, double norm_eps, const MaskedLmModules& modules);

/// RoBERTa and XLM-RoBERTa, heads included.
void build_roberta(ModelBuilder& g, const Config& config, const std::string& name,
                   std::int64_t default_vocab_size);

}  // namespace quell
