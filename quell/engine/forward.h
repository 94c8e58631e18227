// What every engine offers: tokens in, named outputs out.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "quell/base/exec_context.h"
#include "quell/tensor/tensor.h"
#include "quell/text/data/token_batch.h"

namespace quell {

struct CachedPass;
struct Model;

/// What a forward pass leaves behind. `values` holds the model's outputs by name: "logits",
/// "last_hidden_state" [B*N, H], "pooler_output" [B, H], and "embedding" [B, D] for sentence
/// models.
struct ForwardOutputs {
  bool want_hidden_states = false;
  /// What follows the last block runs on the last token of each sequence only: [B, vocabulary]
  /// logits for generation.
  bool last_tokens_only = false;
  /// Nothing but the sentence embeddings: what follows the last hidden states, heads included, is
  /// left out.
  bool embedding_only = false;
  /// Appends the batch's tokens to a cache and, where `TokenBatch::past` is not 0, continues from
  /// it. All sequences of a batch are new, or none is. May be null.
  const CachedPass* cached = nullptr;
  std::map<std::string, Tensor> values;
  std::vector<std::vector<Tensor>> hidden_states;  ///< by stack
};

/// Anything that maps tokens to outputs: float, simulated and integer engines alike.
class ForwardModel {
 public:
  virtual ~ForwardModel() = default;
  virtual void forward(const TokenBatch& batch, ForwardOutputs& outputs,
                       ExecContext& ctx) const = 0;
  virtual const Model& model() const = 0;
};

}  // namespace quell
