// How far the outputs of one model are from those of another, whatever it is for.
#pragma once

#include <string>
#include <vector>

#include "quell/model/forward.h"

namespace quell {

/// KL divergence of logits, 1 - cosine of sentence embeddings, or the relative squared error of the last hidden states.
class Divergence {
 public:
  /// Of models with the outputs of `model`.
  explicit Divergence(const Model& model);

  /// "KL divergence of the logits, in nats" and the like.
  std::string words() const;
  /// The output that is compared, of each batch.
  std::vector<Tensor> outputs(const ForwardModel& model, const std::vector<TokenBatch>& samples, ExecContext& ctx) const;
  /// Mean over tokens or sequences; padding does not count.
  double between(const std::vector<Tensor>& want, const std::vector<Tensor>& got, const std::vector<TokenBatch>& samples) const;

 private:
  ModelSpec spec_;
  std::string output_;
};

}  // namespace quell
