#include "quell/train_job/train_task.h"

#include "quell/base/error.h"

namespace quell::train {
namespace {

constexpr TrainTask kTasks[] = {
    {"sst2", TaskKind::kClasses, Head::kSequenceClassification, "sst2"},
    {"mrpc", TaskKind::kClasses, Head::kSequenceClassification, "mrpc"},
    {"cola", TaskKind::kClasses, Head::kSequenceClassification, "cola", "matthews"},
    {"rte", TaskKind::kClasses, Head::kSequenceClassification, "rte"},
    {"stsb", TaskKind::kValue, Head::kSequenceClassification, "stsb"},
    {"classification", TaskKind::kClasses, Head::kSequenceClassification, "classification"},
    {"regression", TaskKind::kValue, Head::kSequenceClassification, "classification"},
    {"masked-lm", TaskKind::kMaskedLm, Head::kMaskedLm, "masked-lm"},
    {"causal-lm", TaskKind::kCausalLm, Head::kCausalLm, "perplexity", "perplexity", true},
    {"seq2seq", TaskKind::kSeq2Seq, Head::kSeq2SeqLm, "", "perplexity", true},
};

}  // namespace

std::vector<std::string> train_task_names() {
  std::vector<std::string> names;
  for (const TrainTask& task : kTasks) names.emplace_back(task.name);
  return names;
}

const TrainTask& find_train_task(const std::string& name) {
  for (const TrainTask& task : kTasks)
    if (name == task.name) return task;
  throw Error(ErrorCode::kUsage,
              "--task " + name + " is unknown; use one of " + comma_list(train_task_names()));
}

}  // namespace quell::train
