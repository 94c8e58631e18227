// `quell inspect`: what a checkpoint is, and where its outliers are.
#pragma once

#include <string>

#include "quell/io/json_fwd.h"
#include "quell/job/quantize_job.h"

namespace quell {

struct InspectJob {
  ModelDirectory model_dir;
  std::optional<CalibrationChoice> calibration;  ///< adds activation ranges per site
  bool kernels = false;                          ///< adds fused operators other than linears
  bool threads_asked = false;                    ///< the number of threads was named, not chosen
  /// Adds sizes by the accounting of the papers (job/scheme_sizes.h): "W2A8". Empty: none. These
  /// need config.json alone; without weights they are all that is reported.
  std::string scheme;
};

/// The report as JSON; `inspect_text` lays it out for people.
Json run_inspect_job(const InspectJob& job, ExecContext& ctx);
std::string inspect_text(const Json& report);

}  // namespace quell
