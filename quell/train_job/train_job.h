// `quell train` and `quell distill`: from a checkpoint and rows to a trained model that is written,
// read back and compared with what was trained.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "quell/job/report.h"
#include "quell/train/training_recipe.h"
#include "quell/train_job/training_rows.h"

namespace quell::train {

struct TrainJob {
  ModelDirectory model_dir;    ///< what the student starts from
  ModelDirectory teacher_dir;  ///< empty: training on labels alone
  std::filesystem::path output;
  bool replace_output = false;
  TrainingRecipe recipe;

  std::string task;  ///< one of train_task_names()
  DataChoice data;
  std::int64_t limit = 0;  ///< rows of `data` at most; 0: all
  std::vector<std::filesystem::path> unlabelled;
  DataChoice eval_data;  ///< file empty: nothing is measured, and the last model is kept
  std::int64_t eval_limit = 0;

  bool random_weights = false;
  std::optional<std::int64_t> num_labels;  ///< of a head that has to be made
  bool new_head = false;                   ///< instead of the one that the model has
  int layers = 0;                          ///< of the student's stacks; 0: as many as it has
  std::string layer_map;                   ///< empty: evenly spread

  std::uint64_t seed = 0;
  std::int64_t checkpoint_every = 200;  ///< steps
  std::int64_t log_every = 10;
  bool diagnostics = false;
  bool cache_teacher = false;
  bool allow_drift = false;
};

/// Where a run is kept until it is complete: OUT.training.
std::filesystem::path run_directory_beside(const std::filesystem::path& output);

/// Goes on with what an earlier run of the same job left. Throws Error: kVerification where the
/// file does not compute what was trained; `output` is not written then.
Report run_train_job(const TrainJob& job, ExecContext& ctx);

}  // namespace quell::train
