// What `quell bench` refuses before any work.
#pragma once

#include "quell/job/bench_job.h"
#include "quell/model/model.h"

namespace quell {

/// Throws Error(kUsage) on shapes that the model does not read, on options that would change
/// nothing, and on a batch that takes more memory than there is.
void check_bench_job(const BenchJob& job, const Model& model);

}  // namespace quell
