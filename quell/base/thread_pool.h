// A fixed set of threads for data-parallel loops.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace quell {

/// Runs loops over index ranges on `num_threads` threads, the calling one included. The split into chunks depends only
/// on the loop, never on the number of threads, so results do not depend on it either. One loop at a time; a loop started inside
/// a loop body runs on the calling thread alone.
class ThreadPool {
 public:
  /// `num_threads` <= 0 takes the number of cores this process may run on.
  explicit ThreadPool(int num_threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const noexcept;

  /// Calls `body(begin, end)` for consecutive chunks of at most `chunk` indices that cover [0, count). The first exception
  /// a body throws is rethrown here after all chunks have ended.
  void parallel_for(std::int64_t count, std::int64_t chunk, const std::function<void(std::int64_t, std::int64_t)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace quell
