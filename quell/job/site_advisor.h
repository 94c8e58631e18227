// What the measurements of a report suggest, and its one sentence.
#pragma once

#include <optional>

#include "quell/eval/evaluate.h"
#include "quell/job/eval_job.h"
#include "quell/job/site_measurer.h"

namespace quell {

/// The task whose metric advice is also told in.
class ReportTask {
 public:
  /// Reads the data of the job's task. Throws as load_eval_set and open_images, and Error(kUsage)
  /// where the task is none of the model.
  ReportTask(const SiteReportJob& job, const Model& original);
  /// The first of its metrics.
  MetricResult measure(const ForwardModel& model, ExecContext& ctx) const;

 private:
  EvalOptions options_;
  EvalSet texts_;
  std::optional<EvalImages> images_;  ///< none: the task is one of texts
};

/// Adds advice, the command that carries it out, the metric of the task (null: none) and the
/// verdict. Measures whole models again for it.
void add_advice(const Model& original, const Model& model, const SiteMeasurer& measurer,
                const SiteReportJob& job, const ReportTask* task, SiteReport& report,
                ExecContext& ctx);

}  // namespace quell
