// What terms share: which rows of a batch count, and what was tapped of a pass.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "quell/train/objective.h"

namespace quell::train {

/// Tokens of a stack of the model: of its decoder where that follows an encoder.
TokenBatch tokens_of(const Model& model, const TokenBatch& batch, int stack);
/// bool [batch, length]: no padding.
torch::Tensor is_token(const TokenBatch& tokens);

/// Values as they were tapped, in the order of `values`.
std::vector<torch::Tensor> tapped(const TorchOutputs& outputs, const std::vector<ValueId>& values);
/// A stage of each attention.
std::vector<torch::Tensor> tapped(const TorchOutputs& outputs, const std::vector<NodeId>& nodes,
                                  AttentionStage stage);
void want_stage(Taps& taps, const std::vector<NodeId>& nodes, AttentionStage stage);

/// Throws Error(kInvalidInput) naming the term where the values of a pair differ in width.
void check_widths(const std::string& term, const TermSetting& setting, const ValuePairs& pairs);
/// Attentions of paired layers with as many heads each; throws Error(kInvalidInput) naming term and
/// layer.
NodePairs equal_attention_pairs(const std::string& term, const TermSetting& setting);

/// bool [B, 1, queries, keys]: what the query may not see.
torch::Tensor hidden_from(const Model& model, const TokenBatch& batch, const Node& attention);

/// ranking_loss and cover_length of maps of self attentions: mean over heads, layers and sentences,
/// of the tokens that are no padding.
std::map<std::string, double> map_diagnostics(const Model& model, const TokenBatch& batch,
                                              const std::vector<NodeId>& nodes,
                                              const std::vector<torch::Tensor>& student,
                                              const std::vector<torch::Tensor>& teacher);
/// pairwise_cosine and singular_value_entropy of rows [n, d], of at most 256 of them.
std::map<std::string, double> row_diagnostics(const torch::Tensor& rows);

/// The last hidden states of the last stack, and its tokens.
ValueId last_hidden_state(const Graph& graph);
torch::Tensor token_rows(const Model& model, const TokenBatch& batch, const torch::Tensor& rows);

}  // namespace quell::train
