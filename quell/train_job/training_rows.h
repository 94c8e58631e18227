// Data files as rows to learn from, and as what a student is measured on.
#pragma once

#include <filesystem>
#include <vector>

#include "quell/eval/evaluate.h"
#include "quell/train/training_data.h"
#include "quell/train_job/train_task.h"

namespace quell::train {

/// Which rows, and how they are read.
struct RowChoice {
  DataChoice data;
  std::int64_t limit = 0;  ///< rows or windows at most; 0: all
  std::int64_t max_seq_length = 128;
};

/// Rows of a task for `model`, whose tokenizer reads them. Classes and numbers have their labels
/// checked against the model's head. Throws Error(kInvalidInput | kUsage) where data and task do
/// not fit, or there are no rows.
TrainingSet read_training_set(const TrainTask& task, const RowChoice& rows, const Model& model);

/// Appends rows of files whose labels are not read: lines of text, or the text columns of
/// `columns`. Tasks with a class or a number a row; what the rows are given as labels is never
/// read.
void add_unlabelled_rows(const std::vector<std::filesystem::path>& files,
                         const ColumnChoice& columns, std::int64_t max_seq_length,
                         const Model& model, TrainingSet& set);

/// How many classes the labels of a data file need, at least two.
std::int64_t count_classes(const TrainTask& task, const DataChoice& data);

/// What a student is measured on during training and afterwards: rows of a task of quell eval, or,
/// where there is no such task, batches of targets.
class HeldOut {
 public:
  /// Masked language models: tokens are masked here, from a fixed seed, where the file holds text.
  HeldOut(const TrainTask& task, const RowChoice& rows, const Model& model);

  std::vector<MetricResult> measure(const ForwardModel& model, ExecContext& ctx) const;
  /// Of `results`: the larger the better.
  double score(const std::vector<MetricResult>& results) const;
  /// The rows as token sequences, for comparisons of models.
  const std::vector<TokenSequence>& sequences() const;

 private:
  const TrainTask& task_;
  EvalOptions options_;
  EvalSet set_;
  TrainingSet targets_;  ///< seq2seq
};

}  // namespace quell::train
