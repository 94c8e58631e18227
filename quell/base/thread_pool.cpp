// Each thread has a share of a loop's pieces, neighbours, and takes them one by one; whoever is
// through with its own takes from the others'. Loops that follow each other so find in a thread's
// cache what the thread itself wrote there. Nobody waits for a worker that has not come: it finds
// the gate closed and never sees that loop. Waited for is only who holds a piece.
#include "quell/base/thread_pool.h"

#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "quell/base/cpu_budget.h"
#include "quell/base/crew.h"

namespace quell {
namespace {

using Clock = std::chrono::steady_clock;
using Duration = Crew::Duration;
using Body = std::function<void(std::int64_t, std::int64_t)>;

thread_local bool inside_loop = false;

/// How long a thread looks for work, or for the end of it, before it sleeps. Longer than the pauses
/// between the operators of a forward pass, short enough to leave the core to others.
constexpr auto kSpin = std::chrono::microseconds(100);

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
  const auto end = Clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      relax();
    }
  } while (Clock::now() < end);
  return false;
}

/// Time that a thread has run; the difference to a wall clock is what it slept and what others
/// took.
Duration cpu_time(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
}

/// Tells how long the calling thread was off its core in the loops of a while. Asking a thread for
/// its time costs a system call, so it is asked only now and then; what it runs between loops
/// counts as if it ran in them.
class CallerTime {
 public:
  void start_loop(Clock::time_point now) {
    if (now - since_ > 2 * kWhile) restart(now);  // idle meanwhile, or waiting for other things
    loop_start_ = now;
  }
  /// `slept` of the loop's time it waited for workers.
  void end_loop(Clock::time_point now, Duration slept) { in_loops_ += now - loop_start_ - slept; }

  bool is_due(Clock::time_point now) const { return now - since_ > kWhile; }
  /// Of the loops since the last time; at most what was lost.
  Duration take_lost(Clock::time_point now) {
    const Duration wanted = in_loops_, before = cpu_;
    restart(now);
    return std::max(Duration{}, wanted - (cpu_ - before));
  }

 private:
  static constexpr Duration kWhile = std::chrono::milliseconds(2);

  void restart(Clock::time_point now) {
    since_ = now;
    cpu_ = cpu_time(CLOCK_THREAD_CPUTIME_ID);
    in_loops_ = {};
  }

  Clock::time_point since_{}, loop_start_{};
  Duration cpu_{}, in_loops_{};
};

thread_local CallerTime caller_time;

/// Parts of the gate: how many workers are inside, whether more may enter, and the number of the
/// loop.
constexpr std::uint64_t kInside = 0xffff, kOpen = 0x10000, kLoop = 0x20000;

/// Indices of a loop that belong to one thread, from `next` on.
struct alignas(64) Share {
  std::atomic<std::int64_t> next{0};
  std::int64_t end = 0;
};

struct Worker {
  int index = 0;
  std::thread thread;
  clockid_t clock{};
  std::uint64_t last_loop = 0;  ///< that it entered; the worker's own
  std::condition_variable wake;
  std::atomic<bool> asleep{false};
  std::atomic<bool> inside{false};
};

}  // namespace

struct ThreadPool::State {
  bool spin = true;  ///< not where there are more threads than cores: spinning would take the core
                     ///< from the one that works
  std::vector<std::unique_ptr<Worker>> workers;
  std::mutex loop_mutex;  // one loop at a time
  std::mutex mutex;       // of both conditions and of the error
  std::condition_variable done;
  std::atomic<bool> stop{false};
  Crew crew{0};                   // the caller's
  std::atomic<int> crew_size{0};  // what workers see of it

  // Written by the caller while the gate is closed and nobody is inside.
  const Body* body = nullptr;
  std::int64_t count = 0, chunk = 1;
  std::exception_ptr error;
  std::unique_ptr<Share[]> shares;  ///< one a thread, the caller's first
  int share_count = 1;              ///< of this loop
  // Apart from the rest, as threads write here.
  alignas(64) std::atomic<std::int64_t> error_begin{kNoError};
  alignas(64) std::atomic<std::uint64_t> gate{0};

  static constexpr std::int64_t kNoError = std::numeric_limits<std::int64_t>::max();

  void share_out() {
    const std::int64_t pieces = (count + chunk - 1) / chunk;
    share_count = crew.size() + 1;
    for (int s = 0; s < share_count; ++s) {
      Share& share = shares[static_cast<std::size_t>(s)];
      share.next = pieces * s / share_count * chunk;
      share.end = std::min(count, pieces * (s + 1) / share_count * chunk);
    }
  }

  /// The error of the first piece that has one. Pieces behind it are not needed, those before it
  /// are still run.
  void keep_error(std::int64_t begin) {
    const std::lock_guard lock(mutex);
    if (begin > error_begin) return;
    error = std::current_exception();
    error_begin = begin;
  }

  void run_share(Share& share) {
    while (share.next.load() < share.end) {
      const std::int64_t begin = share.next.fetch_add(chunk);
      if (begin >= share.end || begin > error_begin) break;
      try {
        (*body)(begin, std::min(begin + chunk, share.end));
      } catch (...) {
        keep_error(begin);
      }
    }
  }

  /// `own`: the number of the thread's share.
  void run_pieces(int own) {
    inside_loop = true;
    for (int i = 0; i < share_count; ++i)
      run_share(shares[static_cast<std::size_t>((own + i) % share_count)]);
    inside_loop = false;
  }

  bool may_enter(const Worker& w, std::uint64_t g) const {
    return (g & kOpen) != 0 && g / kLoop != w.last_loop && w.index < crew_size.load();
  }

  bool enter(Worker& w) {
    std::uint64_t g = gate.load();
    while (may_enter(w, g)) {
      if (!gate.compare_exchange_weak(g, g + 1)) continue;
      w.last_loop = g / kLoop;
      w.inside = true;
      return true;
    }
    return false;
  }

  void leave(Worker& w) {
    w.inside = false;
    const bool last_of_closed = gate.fetch_sub(1) % kLoop == 1;
    if (!last_of_closed) return;
    const std::lock_guard lock(
        mutex);  // so that the caller cannot fall asleep between its check and this
    done.notify_one();
  }

  void work(Worker& w) {
    const auto ready = [&] { return stop.load() || may_enter(w, gate.load()); };
    for (;;) {
      if (!(spin && spin_until(ready))) {
        std::unique_lock lock(mutex);
        w.asleep = true;
        w.wake.wait(lock, ready);
        w.asleep = false;
      }
      if (stop) return;
      if (!enter(w)) continue;
      run_pieces(w.index + 1);
      leave(w);
    }
  }

  void wake(Worker& w) {
    { const std::lock_guard lock(mutex); }  // it cannot be between its check and its sleep now
    w.wake.notify_one();
  }

  struct Wait {
    Duration slept{},
        lost{};  ///< lost: the longest time that one of those waited for was off its core
  };

  /// Until all who hold a piece are done.
  Wait wait_for_workers() {
    const auto finished = [&] { return (gate.load() & kInside) == 0; };
    if (spin && spin_until(finished)) return {};
    std::vector<std::pair<const Worker*, Duration>> late;
    for (const auto& w : workers)
      if (w->inside) late.emplace_back(w.get(), cpu_time(w->clock));

    const auto start = Clock::now();
    {
      std::unique_lock lock(mutex);
      done.wait(lock, finished);
    }
    Wait wait{Clock::now() - start, {}};
    for (const auto& [w, before] : late)
      wait.lost = std::max(wait.lost, wait.slept - (cpu_time(w->clock) - before));
    return wait;
  }

  void run_together() {
    const auto start = Clock::now();
    caller_time.start_loop(start);
    share_out();
    error = nullptr;
    error_begin = kNoError;
    gate = (gate / kLoop + 1) * kLoop + kOpen;
    for (int i = 0; i < crew.size(); ++i)
      if (Worker& w = *workers[static_cast<std::size_t>(i)]; w.asleep) wake(w);

    run_pieces(0);
    gate.fetch_and(~kOpen);
    const Wait wait = wait_for_workers();

    const auto end = Clock::now();
    caller_time.end_loop(end, wait.slept);
    const Duration lost =
        wait.lost + (caller_time.is_due(end) ? caller_time.take_lost(end) : Duration{});
    if (lost > Duration{}) {
      crew.stalled(end, lost);
      crew_size = crew.size();
    }
    if (error) std::rethrow_exception(std::exchange(error, nullptr));
  }

  void run(std::int64_t new_count, std::int64_t new_chunk, const Body& new_body) {
    if (!crew.is_complete()) {
      crew.start_loop(Clock::now());
      crew_size = crew.size();
    }
    count = new_count;
    chunk = new_chunk;
    body = &new_body;
    run_together();
  }
};

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>()) {
  State& s = *state_;
  const int usable = cpu_budget().threads(), total = num_threads > 0 ? num_threads : usable;
  s.spin = total <= usable;
  s.shares = std::make_unique<Share[]>(static_cast<std::size_t>(std::max(total, 1)));
  for (int i = 0; i + 1 < total; ++i) {
    s.workers.push_back(std::make_unique<Worker>());
    Worker& w = *s.workers.back();
    w.index = i;
    w.thread = std::thread([&s, &w] { s.work(w); });
    pthread_getcpuclockid(w.thread.native_handle(), &w.clock);
  }
  s.crew = Crew(total - 1);
  s.crew_size = total - 1;
}

ThreadPool::~ThreadPool() {
  state_->stop = true;
  for (const auto& w : state_->workers) state_->wake(*w);
  for (const auto& w : state_->workers) w->thread.join();
}

int ThreadPool::num_threads() const noexcept {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::parallel_for(std::int64_t count, std::int64_t chunk, const Body& body) {
  if (count <= 0) return;
  chunk = std::max<std::int64_t>(chunk, 1);
  if (inside_loop || state_->workers.empty() || count <= chunk) {
    for (std::int64_t begin = 0; begin < count; begin += chunk)
      body(begin, std::min(begin + chunk, count));
    return;
  }
  const std::lock_guard loop(state_->loop_mutex);
  state_->run(count, chunk, body);
}

}  // namespace quell
