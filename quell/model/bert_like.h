// What BERT and its relatives share: sizes, embeddings with a norm behind them, a post-norm stack, and tensor names.
#pragma once

#include "quell/model/family.h"

namespace quell {

/// Sizes from the usual keys, the embeddings (words, token types, positions), and one post-norm stack of plain layers; no head.
ModelSpec bert_like_spec(const Settings& config);
/// Weights of embeddings and stack under `prefix` ("bert.").
std::vector<TensorRule> bert_like_tensors(const ModelSpec& spec, const Settings& config, const std::string& prefix);
/// First token, dense, tanh.
std::vector<Step> bert_pooler();
/// Dense, activation, norm, output matrix.
std::vector<Step> bert_masked_lm(ActivationKind act);
/// Rules of RoBERTa and XLM-RoBERTa, heads included.
ModelSpec roberta_spec(const Settings& config, const std::string& name);
std::vector<TensorRule> roberta_tensors(const ModelSpec& spec, const Settings& config);

}  // namespace quell
