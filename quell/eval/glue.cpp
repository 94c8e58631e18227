#include "quell/eval/glue.h"

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

}  // namespace quell
