// GLUE's tasks (Wang et al. 2019) as their files are published.
#pragma once

#include <string>
#include <vector>

#include "quell/text/data/dataset.h"

namespace quell {

/// Columns and the names of the classes; `kind`: classification or sts.
struct GlueTask {
  const char* name;
  const char* kind;
  ColumnChoice columns, jsonl_columns;
};
const std::vector<GlueTask>& glue_tasks();
/// Null for other tasks.
const GlueTask* find_glue(const std::string& task);

/// The columns that `choice` asks for, or else those that the task's files have.
ColumnChoice task_columns(const std::string& task, const DataChoice& choice);

}  // namespace quell
