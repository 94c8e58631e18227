#include "quell/base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace quell {
namespace {

thread_local bool inside_loop = false;

/// How long a thread looks for work, or for the end of it, before it sleeps. Longer than the pauses between the operators of a
/// forward pass, short enough to leave the core to others.
constexpr auto kSpin = std::chrono::microseconds(100);

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// Whether `ready` came true within the time to spin.
template <typename Ready>
bool spin_until(Ready ready) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> workers;
  bool spin = true;  ///< not where there are more threads than cores: spinning would take the core from the one that works
  std::mutex mutex;
  std::mutex loop_mutex;  // one loop at a time
  std::condition_variable wake, done;
  std::atomic<std::uint64_t> generation{0};
  std::atomic<int> active{0};
  std::atomic<bool> stop{false};

  const std::function<void(std::int64_t, std::int64_t)>* body = nullptr;
  std::int64_t count = 0, chunk = 1;
  std::atomic<std::int64_t> next{0};
  std::exception_ptr error;

  void run_chunks() {
    inside_loop = true;
    for (;;) {
      const std::int64_t begin = next.fetch_add(chunk);
      if (begin >= count) break;
      try {
        (*body)(begin, std::min(begin + chunk, count));
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
    }
    inside_loop = false;
  }

  void work() {
    std::uint64_t seen = 0;
    const auto ready = [&] { return stop.load() || generation.load() != seen; };
    for (;;) {
      if (!(spin && spin_until(ready))) {
        std::unique_lock lock(mutex);
        wake.wait(lock, ready);
      }
      if (stop) return;
      seen = generation;
      run_chunks();
      if (active.fetch_sub(1) == 1) {
        const std::lock_guard lock(mutex);  // so that the waiter cannot fall asleep between its check and this
        done.notify_one();
      }
    }
  }
};

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>()) {
  const int cores = available_cores(), total = num_threads > 0 ? num_threads : cores;
  state_->spin = total <= cores;
  for (int i = 1; i < total; ++i) state_->workers.emplace_back([this] { state_->work(); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->wake.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::num_threads() const noexcept { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::parallel_for(std::int64_t count, std::int64_t chunk, const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (count <= 0) return;
  chunk = std::max<std::int64_t>(chunk, 1);
  if (inside_loop || state_->workers.empty() || count <= chunk) {
    for (std::int64_t begin = 0; begin < count; begin += chunk) body(begin, std::min(begin + chunk, count));
    return;
  }
  const std::lock_guard loop(state_->loop_mutex);
  {
    const std::lock_guard lock(state_->mutex);
    state_->body = &body;
    state_->count = count;
    state_->chunk = chunk;
    state_->next = 0;
    state_->error = nullptr;
    state_->active = static_cast<int>(state_->workers.size());
    ++state_->generation;
  }
  state_->wake.notify_all();
  state_->run_chunks();
  const auto finished = [&] { return state_->active.load() == 0; };
  if (!(state_->spin && spin_until(finished))) {
    std::unique_lock lock(state_->mutex);
    state_->done.wait(lock, finished);
  }
  if (state_->error) std::rethrow_exception(state_->error);
}

}  // namespace quell
