// What `quell bench` refuses before any work.
#pragma once

#include "quell/job/bench_job.h"
#include "quell/model/model.h"

namespace quell {

/// Throws Error(kUsage) on shapes that the model does not read, and on options that would change
/// nothing.
void check_bench_job(const BenchJob& job, const Model& model);

}  // namespace quell
