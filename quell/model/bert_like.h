// What BERT and its relatives share: sizes, embeddings with a norm behind them, a post-norm stack,
// and tensor names.
#pragma once

#include "quell/model/family.h"

namespace quell {

/// What the class of a family takes where config.json says nothing. BERT's; families name what
/// differs.
struct EncoderDefaults {
  std::int64_t vocab_size = 30522, hidden_size = 768, intermediate_size = 3072,
               num_hidden_layers = 12, num_attention_heads = 12;
  std::int64_t max_position_embeddings = 512, type_vocab_size = 2;
  const char* norm_eps_key = "layer_norm_eps";  ///< null: the family has one that no key changes
  double norm_eps = 1e-12;
  const char* activation = "gelu";
  std::optional<std::int64_t> pad_token_id = 0, eos_token_id = std::nullopt;
};
inline constexpr EncoderDefaults kBertDefaults = {};

/// Sizes from the usual keys, the embeddings (words, token types, positions), and one post-norm
/// stack of plain layers; no head.
ModelSpec bert_like_spec(const Settings& config, const EncoderDefaults& defaults = kBertDefaults);
/// Weights of embeddings and stack under `prefix` ("bert.").
std::vector<TensorRule> bert_like_tensors(const ModelSpec& spec, const Settings& config,
                                          const std::string& prefix,
                                          const EncoderDefaults& defaults = kBertDefaults);
/// First token, dense, tanh.
std::vector<Step> bert_pooler();
/// Dense, activation, norm, output matrix.
std::vector<Step> bert_masked_lm(ActivationKind act);
/// Rules of RoBERTa and XLM-RoBERTa, heads included.
ModelSpec roberta_spec(const Settings& config, const std::string& name,
                       std::int64_t default_vocab_size);
std::vector<TensorRule> roberta_tensors(const ModelSpec& spec, const Settings& config);

}  // namespace quell
