// Dropout (Srivastava et al. 2014): where, and how much. What is dropped follows from a seed, the
// step and the place alone, so that a run that is taken up again drops the same.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <optional>

#include "quell/graph/graph.h"

namespace quell::train {

/// The share of elements that is dropped, by place. Identity outside training.
struct DropoutPoints {
  std::map<ValueId, double> values;  ///< of what a node computes, before anybody reads it
  std::map<NodeId, double> maps;     ///< of the probabilities of an attention
};

struct DropoutRates {
  double hidden = 0;     ///< of embeddings and of what is added to a residual stream
  double attention = 0;  ///< of the probabilities
  double head = 0;       ///< of what the last linear of a head reads
};

/// On the embeddings that go into each stack, on each linear whose result is added to another
/// value, on the attention maps, and on what a classifier reads: where transformers has it in BERT,
/// GPT-2 and BART. Others have more there (T5 between the linears of its MLP, RoBERTa in front of
/// its head's first), which callers may add.
DropoutPoints dropout_points(const Graph& graph, const DropoutRates& rates);

/// What the masks of one forward pass are drawn from.
struct DropoutDraw {
  std::uint64_t seed = 0;
  std::int64_t step = 0;
};

/// x with a share of `rate` of its elements 0, and the others divided by 1 - rate. `place`: unlike
/// that of any other point of the pass.
torch::Tensor drop_out(const torch::Tensor& x, double rate, const DropoutDraw& draw,
                       std::uint64_t place);

}  // namespace quell::train
