// How far the outputs of one model are from those of another, whatever it is for.
#pragma once

#include <string>
#include <vector>

#include "quell/engine/engines.h"

namespace quell {

/// A sum over the rows of each held-out sequence, and what it is divided by: a divergence whose
/// noise can be told.
struct Divergences {
  std::vector<double> sums;  ///< one a sequence
  double count = 0;
  std::vector<double> counts = {};  ///< the same of each sequence alone
  double mean() const;
  /// The divergence of one sequence.
  double of(std::size_t sequence) const;
};

/// Whether `better` is smaller than `worse` by more than two standard errors of the difference,
/// sequence by sequence.
bool clearly_smaller(const Divergences& better, const Divergences& worse);

/// KL divergence of logits, 1 - cosine of sentence embeddings, or the relative squared error of the
/// last hidden states.
class Divergence {
 public:
  /// Of models with the outputs of `model`.
  explicit Divergence(const Model& model);

  /// "KL divergence of the logits, in nats" and the like.
  std::string words() const;
  /// The output that is compared, of each batch.
  std::vector<Tensor> outputs(const ForwardModel& model, const std::vector<TokenBatch>& samples,
                              ExecContext& ctx) const;
  /// Over tokens or sequences; padding does not count.
  Divergences between(const std::vector<Tensor>& want, const std::vector<Tensor>& got,
                      const std::vector<TokenBatch>& samples) const;
  /// The class with the largest logit of each sequence; empty where the output that is compared are
  /// no logits of several classes with a row for each.
  std::vector<std::int64_t> top_classes(const std::vector<Tensor>& outputs,
                                        const std::vector<TokenBatch>& samples) const;

 private:
  ModelSpec spec_;
  bool two_stacks_;  ///< the outputs are the decoder's
  std::string output_;
};

}  // namespace quell
