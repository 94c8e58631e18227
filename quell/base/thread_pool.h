// A fixed set of threads for data-parallel loops.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace quell {

/// Runs loops over index ranges on `num_threads` threads, the calling one included; results do not
/// depend on how many, as the split into chunks does not. One loop at a time; a loop started inside
/// a loop body runs on the calling thread alone. Fewer threads take part for a while where others
/// take their cores (crew.h); nobody waits for a thread that has taken no chunk.
class ThreadPool {
 public:
  /// `num_threads` <= 0 takes what affinity and control groups allow this process (cpu_budget.h).
  explicit ThreadPool(int num_threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const noexcept;

  /// Calls `body(begin, end)` for consecutive chunks of at most `chunk` indices that cover [0,
  /// count). Of what bodies throw, the exception of the first chunk is rethrown here when all
  /// running chunks have ended; chunks behind it may be left out.
  void parallel_for(std::int64_t count, std::int64_t chunk,
                    const std::function<void(std::int64_t, std::int64_t)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace quell
