// What training starts from: a checkpoint, with a new head where it has none for the task, or
// random weights.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "quell/model/model.h"
#include "quell/train_job/train_task.h"

namespace quell::train {

struct StartChoice {
  ModelDirectory directory;
  bool random_weights = false;  ///< of the directory only config.json and the tokenizer are used
  /// Classes of a head; nothing: those that the checkpoint has, or as many as `count_labels` says.
  std::optional<std::int64_t> num_labels;
  bool new_head = false;  ///< instead of the one that is there
  std::function<std::int64_t()> count_labels;
  std::uint64_t seed = 0;
};

/// A float model with the head that `task` needs. A head that the checkpoint lacks starts from
/// normal numbers of config.json's initializer_range, and "architectures" and "num_labels" of its
/// config say so. Throws Error(kUnsupported) where the family has no such head, or the model is
/// quantized; Error(kInvalidInput) where more than a head is missing, or the checkpoint's is for
/// another number of labels.
Model load_start(const StartChoice& choice, const TrainTask& task);

/// Throws Error(kInvalidInput) where the checkpoint has no head for the task.
Model load_teacher(const ModelDirectory& directory, const TrainTask& task);

}  // namespace quell::train
