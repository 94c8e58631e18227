#include "quell/eval/glue.h"

#include "quell/text/data/text_file.h"

namespace quell {

const std::vector<GlueTask>& glue_tasks() {
  static const std::vector<GlueTask> tasks = {
      {"sst2", "classification", {{"sentence"}, "label"}, {{"sentence"}, "label"}},
      {"mrpc",
       "classification",
       {{"#1 String", "#2 String"}, "Quality"},
       {{"sentence1", "sentence2"}, "label"}},
      {"cola", "classification", {{"4"}, "2"}, {{"sentence"}, "label"}},
      {"rte",
       "classification",
       {{"sentence1", "sentence2"}, "label", {"entailment", "not_entailment"}},
       {{"sentence1", "sentence2"}, "label"}},
      {"stsb", "sts", {{"6", "7"}, "5"}, {{"sentence1", "sentence2"}, "label"}}};
  return tasks;
}

const GlueTask* find_glue(const std::string& task) {
  for (const GlueTask& t : glue_tasks())
    if (task == t.name) return &t;
  return nullptr;
}

ColumnChoice task_columns(const std::string& task, const DataChoice& choice) {
  ColumnChoice columns = choice.columns;
  const GlueTask* glue = find_glue(task);
  if (!glue) return columns;

  const bool is_jsonl = data_ending(choice.file) == ".jsonl";
  const ColumnChoice& usual = is_jsonl ? glue->jsonl_columns : glue->columns;
  if (columns.text.empty()) columns.text = usual.text;
  if (columns.label.empty()) columns.label = usual.label;
  columns.label_names = usual.label_names;
  return columns;
}

}  // namespace quell
