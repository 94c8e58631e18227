// How many workers of a thread pool take part in its loops where other processes want the same
// cores.
#pragma once

#include <algorithm>
#include <chrono>

namespace quell {

/// A worker that shares its core with a busy process stops for a slice of the scheduler, some
/// milliseconds, wherever it is; a loop whose piece it holds stops with it, and short loops then
/// take longer than one thread would. One worker fewer costs 1 / threads of the speed and leaves a
/// core to the other process: so where stalls lately took a larger part of the time, one worker
/// rests. Rests grow while that is so again soon after, and shrink after a time together that paid.
/// No threads here and no clock: times are handed in. Used by one thread at a time.
class Crew {
 public:
  using Duration = std::chrono::nanoseconds;
  using Time = std::chrono::time_point<std::chrono::steady_clock, Duration>;

  static constexpr Duration kShortestRest = std::chrono::milliseconds(5);
  static constexpr Duration kLongestRest = std::chrono::milliseconds(1000);
  static constexpr Duration kWindow = std::chrono::milliseconds(100);  ///< what counts as lately
  static constexpr Duration kPaid = std::chrono::milliseconds(500);
  static constexpr int kStep = 4;  ///< from one rest to the next
  /// Threads bring less than their number says, and not every loss is seen: rest where stalls take
  /// this part of 1 / threads.
  static constexpr double kWorth = 0.4;

  explicit Crew(int workers) : workers_(workers), size_(workers) {}

  /// Workers that take part.
  int size() const { return size_; }
  bool is_complete() const { return size_ == workers_; }

  /// Before a loop: one more takes part where its rest is over. Nothing to do for a complete crew.
  void start_loop(Time now) {
    if (is_complete() || now < rest_end_) return;
    ++size_;
    resumed_ = window_start_ = now;
    lost_ = {};
    rest_end_ = now + rest_;
  }

  /// Loops up to `now` lost `lost`, as a thread was off its core.
  void stalled(Time now, Duration lost) {
    if (size_ == 0) return;
    forget(now);
    lost_ += lost;
    const double share = to_seconds(lost_) / to_seconds(std::max(now - window_start_, lost_));
    if (share * (size_ + 1) <= kWorth) return;

    const bool paid = now - resumed_ > kPaid;
    rest_ = std::clamp<Duration>(paid ? rest_ / kStep : rest_ * kStep, kShortestRest, kLongestRest);
    rest_end_ = now + rest_;
    window_start_ = now;
    lost_ = {};
    --size_;
  }

 private:
  static double to_seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

  /// Shortens a window that has grown too long to half of the longest, as if stalls were spread
  /// evenly over it.
  void forget(Time now) {
    const Duration window = now - window_start_;
    if (window <= kWindow) return;
    const double kept = to_seconds(kWindow) / 2 / to_seconds(window);
    lost_ = std::chrono::duration_cast<Duration>(lost_ * kept);
    window_start_ = now - kWindow / 2;
  }

  int workers_, size_;
  Duration rest_ = kShortestRest, lost_{};
  Time resumed_{}, window_start_{}, rest_end_{};
};

}  // namespace quell
