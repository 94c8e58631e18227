// How many workers of a thread pool take part in its loops where other processes want the same cores.
#pragma once

#include <algorithm>
#include <chrono>

namespace quell {

/// A worker that shares its core with a busy process stops for a slice of the scheduler, some milliseconds, wherever it is; a loop
/// whose piece it holds stops with it, and short loops then take longer than one thread would. So when a thread lost its core in
/// the middle of a loop, one worker fewer takes part for a while: that leaves a core to the other process. Rests grow while that
/// keeps happening and are short again after a quiet time. No threads here and no clock: times are handed in. One thread at a time.
class Crew {
 public:
  using Duration = std::chrono::nanoseconds;
  using Time = std::chrono::time_point<std::chrono::steady_clock, Duration>;

  static constexpr Duration kStall = std::chrono::milliseconds(1);  ///< what is shorter costs less than a rest
  static constexpr Duration kShortestRest = std::chrono::milliseconds(5);
  static constexpr Duration kLongestRest = std::chrono::milliseconds(500);
  static constexpr int kQuietRests = 10;  ///< rests' time without a stall before the next rest is short again
  /// Stalls that take a smaller part of their loop cost less than the worker's help is worth.
  static constexpr int kPartOfLoop = 3;

  explicit Crew(int workers) : workers_(workers), size_(workers) {}

  /// Workers that take part.
  int size() const { return size_; }
  bool is_complete() const { return size_ == workers_; }

  /// Before a loop: one more takes part where its rest is over. Nothing to do for a complete crew.
  void start_loop(Time now) {
    if (is_complete() || now < rest_end_) return;
    ++size_;
    resumed_ = now;
    rest_end_ = now + rest_;
  }

  /// After a loop that took `duration` until `now` and in which a thread was off its core for `lost`.
  void end_loop(Time now, Duration duration, Duration lost) {
    if (size_ == 0 || lost <= kStall || lost <= duration / kPartOfLoop) return;
    const bool was_quiet = now - resumed_ > kQuietRests * rest_;
    rest_ = was_quiet ? kShortestRest : std::min(2 * rest_, kLongestRest);
    rest_end_ = now + rest_;
    --size_;
  }

 private:
  int workers_, size_;
  Duration rest_ = kShortestRest;
  Time resumed_{}, rest_end_{};
};

}  // namespace quell
