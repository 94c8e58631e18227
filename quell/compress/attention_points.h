// The points of an attention that have quantizers, seen from the taps of its stages.
#pragma once

#include <functional>
#include <mutex>
#include <utility>

#include "quell/engine/executor.h"

namespace quell {

/// In the order of AttentionQuant::points.
enum class AttentionPoint { kQuery, kKey, kValue, kProbs };

/// A tap (Executor::on_attention) that shows each point of the attentions of one executor what its
/// quantizer is to be made for.
class PointTap {
 public:
  /// `operand`: query, key or value before they are quantized. Of the probabilities `probs`: their
  /// range, as soon as all are known, over the queries that are tokens. What padding attends to is
  /// read by nobody.
  using See = std::function<void(NodeId node, AttentionPoint point, const TensorView& operand,
                                 Range probs)>;

  /// Borrows the executor.
  PointTap(const Executor& executor, See see);
  void operator()(NodeId node, const StageView& stage);

 private:
  void see_map(const TokenBatch& queries, const StageView& map);

  const Executor& executor_;
  See see_;
  std::mutex mutex_;
  Range probs_;  ///< of the attention that runs now, so far
};

}  // namespace quell
