// From the gradient of a model's outputs to those of its activation quantizers, by hand, for the
// steps that encoders and decoders are made of.
#pragma once

#include <map>
#include <utility>

#include "quell/engine/executor.h"
#include "quell/quant/learned_step.h"

namespace quell {

/// Goes back over a forward pass that an executor has done with `keep_values` and quantizers.
/// Gradients of weights are not computed.
class Backward {
 public:
  /// By parameter: what the pass multiplied with instead of the model's own float weights.
  using Weights = std::map<std::size_t, Tensor>;

  /// Borrows everything.
  Backward(const Model& model, const Weights& weights, Executor& executor, ExecContext& ctx);

  /// Adds dL/d(output) of the value behind an output, [rows, columns] as the output has them.
  void seed(ValueId value, Tensor gradient);
  /// From the last node to the first. Throws Error(kUnsupported) naming the first node that it has
  /// no rule for.
  void run();

  /// Of static quantizers, LSQ's factor inside.
  std::map<ValueId, StepGradient> at_values;
  std::map<std::pair<int, int>, StepGradient>
      at_points;  ///< by attention node and point (query, key, value, probs)

  // For the ops on their way back.
  /// The matrix that the pass multiplied with.
  const Tensor& weight(const Node& node) const;
  /// Adds dL/d(operand i of `node`) as the op read it.
  void add_operand(const Node& node, std::size_t i, Tensor gradient);

 private:
  void add(ValueId value, Tensor gradient);
  void into_operand(ValueId value, Tensor gradient);
  void through_quantizer(ValueId value, Tensor& gradient);
  void back_attention(NodeId n, const Tensor& gradient);
  bool matters(ValueId value) const;
  [[noreturn]] void refuse(NodeId n) const;

  const Model& model_;
  const Weights& weights_;
  Executor& executor_;
  ExecContext& ctx_;
  std::vector<Tensor> gradients_;  ///< by value, of what the node computed
};

/// dL/d(hidden) of sentence embeddings (`embed`), of which `gradient` is dL/d(embedding).
Tensor embed_backward(const SentencePipeline& pipeline, const TensorView& hidden,
                      const TokenBatch& batch, const TensorView& gradient, ExecContext& ctx);

}  // namespace quell
