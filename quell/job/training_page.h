// `quell report --training`: how runs of training went. One chart for each metric, with all runs in
// it, so that recipes can be compared.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "quell/io/json_fwd.h"
#include "quell/job/training_metrics.h"

namespace quell {

struct TrainingReportJob {
  std::vector<std::filesystem::path> runs;  ///< as read_training_runs takes them
  std::filesystem::path page;
};

struct TrainingReport {
  std::vector<TrainingMetrics> runs;

  /// {"runs": [{"run", "file", "steps", "torn", "training" | "evaluated" | "diagnostics": {METRIC:
  /// {"last", "last_step", "best", "best_step"}}}]}; null for what is no finite number. "best" only
  /// where some values are better than others (better_values).
  Json to_json() const;
  /// A line a run: where it is, its loss, its best evaluations.
  std::string to_text() const;
  /// A page that needs no other file and no network: inline SVG and CSS.
  std::string to_html() const;
};

/// Throws as read_training_runs, and Error(kIo | kUsage) where the page cannot be written or would
/// replace what is read.
TrainingReport run_training_report_job(const TrainingReportJob& job);

}  // namespace quell
