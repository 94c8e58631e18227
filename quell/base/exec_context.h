// What every computation is handed instead of globals: threads, and somewhere to report progress.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "quell/base/cpu_features.h"
#include "quell/base/thread_pool.h"

namespace quell {

/// Called with (stage, done, total); `done == total` ends the stage.
using ProgressSink = std::function<void(const std::string&, std::int64_t, std::int64_t)>;

/// Seconds by name of operator.
using OperatorTimes = std::map<std::string, double>;

/// Owned by whoever starts a job; passed down by reference. Not shared between concurrent jobs.
struct ExecContext {
  explicit ExecContext(int num_threads = 0) : pool(num_threads), isa(best_isa()) {}

  void progress(const std::string& stage, std::int64_t done, std::int64_t total) const {
    if (on_progress) on_progress(stage, done, total);
  }

  ThreadPool pool;
  Isa isa;
  ProgressSink on_progress;
  OperatorTimes* operator_times = nullptr;  ///< filled by forward passes where set
};

}  // namespace quell
