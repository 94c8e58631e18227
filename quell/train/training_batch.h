// What one forward pass of training reads: tokens, and what they should give.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "quell/text/data/token_batch.h"

namespace quell::train {

/// What a model learns to give.
enum class TaskKind {
  kClasses,     ///< a class a sequence
  kValue,       ///< a number a sequence (STS-B)
  kMaskedLm,    ///< the tokens that were masked
  kCausalLm,    ///< the next token
  kSeq2Seq,     ///< the tokens of another sequence
  kUnlabelled,  ///< nothing: the teacher alone says what is right
};

struct TrainingBatch {
  TaskKind kind = TaskKind::kUnlabelled;
  TokenBatch tokens;
  /// Classes: i64 [B]; values: floats [B]; of tokens: i64 [B, T], kIgnoredLabel where there is
  /// none. Those of causal models stand at the token itself: position t predicts the label at t+1.
  /// Not defined(): unlabelled.
  torch::Tensor labels;
};

}  // namespace quell::train
