// What can be learned: tasks by name, how their rows are read, and which head a model needs for
// them.
#pragma once

#include <string>
#include <vector>

#include "quell/model/model_spec.h"
#include "quell/train/training_batch.h"

namespace quell::train {

struct TrainTask {
  const char* name;
  TaskKind kind;
  Head head;
  const char* measured_as;  ///< a task of quell eval; "": the likelihood of the targets alone
  /// The metric that says which model is the best; null: the first one.
  const char* best_by = nullptr;
  bool smaller_is_better = false;
};

/// sst2, mrpc, cola, rte, stsb (GLUE's files), classification, regression, masked-lm, causal-lm,
/// seq2seq.
std::vector<std::string> train_task_names();
/// Throws Error(kUsage) with the known names.
const TrainTask& find_train_task(const std::string& name);

}  // namespace quell::train
