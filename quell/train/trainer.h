// The loop of training: batches, both forward passes, the objective, gradients, the optimizer,
// evaluation, checkpoints. Killed at any moment and started again, it ends with the same bytes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "quell/train/objective.h"
#include "quell/train/student_quantizers.h"
#include "quell/train/teacher_cache.h"
#include "quell/train/torch_model.h"
#include "quell/train/training_checkpoint.h"
#include "quell/train/training_data.h"
#include "quell/train/training_recipe.h"

namespace quell::train {

/// What trains; all of it outlives the trainer.
struct TrainingParts {
  TorchModel& student;
  StudentQuantizers& quantizers;
  Objective& objective;
  const TrainingData& data;
  const TorchModel* teacher = nullptr;  ///< null: labels alone
  TeacherCache* cache = nullptr;        ///< null: the teacher runs for every batch
};

struct TrainerOptions {
  std::uint64_t seed = 0;
  std::int64_t checkpoint_every = 200;  ///< steps
  std::int64_t log_every = 10;
  bool diagnostics = false;  ///< of the objective, wherever it is evaluated
  bool allow_drift = false;
};

/// How good the student is now; larger is better, whatever the metric. By name, the first one
/// decides which model is the best.
struct Evaluation {
  std::vector<std::pair<std::string, double>> metrics;
  double score = 0;
};

struct TrainerHooks {
  /// Empty: nothing is evaluated, and the last model is the one that is kept.
  std::function<Evaluation()> evaluate;
  /// Loss and learning rate of a step that was just done, of `total`.
  std::function<void(std::int64_t step, std::int64_t total, double loss, double rate)> progress;
};

struct TrainingResult {
  std::int64_t steps = 0;
  std::int64_t best_step = -1;  ///< -1: of the last one
  double best_score = 0;
};

class Trainer {
 public:
  Trainer(const TrainingRecipe& recipe, const TrainerOptions& options, const TrainingParts& parts);

  std::int64_t total_steps() const { return total_; }
  /// To the end; the student then has the parameters of the best step. Takes up what `run` holds.
  /// Throws Error(kNumeric) naming step, rows and parameter where the loss or a gradient is not
  /// finite; the last checkpoint stays as it is.
  TrainingResult run(RunDirectory& run, const TrainerHooks& hooks);

 private:
  std::map<std::string, torch::Tensor> losses(std::int64_t batch);
  std::map<std::string, double> step(std::int64_t step);
  void check_finite(const std::map<std::string, torch::Tensor>& values, std::int64_t step,
                    std::int64_t batch) const;
  /// Before anything is made of them.
  void check_parameters(std::int64_t step) const;
  TorchOutputs teacher_outputs(const TrainingBatch& batch, std::int64_t index);
  /// Of a batch of the run, counted over all steps.
  void begin_quantizers(std::int64_t batch, bool training);
  void start_static_steps();
  void evaluate(std::int64_t step, RunDirectory& run, const TrainerHooks& hooks);

  std::map<std::string, torch::Tensor> tensors_of_run() const;
  std::map<std::string, torch::Tensor> learned() const;
  void restore(const TrainingState& state);
  void checkpoint(std::int64_t step, RunDirectory& run) const;

  const TrainingRecipe& recipe_;
  TrainerOptions options_;
  TrainingParts parts_;
  std::int64_t total_ = 0;
  std::int64_t eval_every_ = 0;
  std::unique_ptr<Optimizer> optimizer_;
  std::map<std::string, torch::Tensor> best_;  ///< learned(), as they were then
  std::int64_t best_step_ = -1;
  double best_score_ = 0;
};

}  // namespace quell::train
