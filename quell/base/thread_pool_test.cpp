#include "quell/base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <numeric>
#include <thread>
#include <vector>

#include "quell/base/crew.h"
#include "quell/base/error.h"

namespace quell {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr auto kQuick = microseconds(100);
constexpr auto kSlice = milliseconds(4);

/// A crew and a clock that a test moves.
struct CrewAtWork {
  explicit CrewAtWork(int workers) : crew(workers) {}

  void run_quick_loops(Crew::Duration time) {
    for (const auto end = now + time; now < end; now += kQuick) crew.start_loop(now);
  }
  void run_stalled_loop() {
    crew.start_loop(now);
    now += kQuick + kSlice;
    crew.stalled(now, kSlice);
  }

  Crew crew;
  Crew::Time now{std::chrono::hours(1)};
};

TEST(Crew, RareStallsRestNobody) {
  CrewAtWork w(1);
  for (int i = 0; i < 100; ++i) {
    w.run_quick_loops(milliseconds(40));
    w.run_stalled_loop();
    ASSERT_EQ(w.crew.size(), 1) << "a slice in eleven is less than a thread of two brings";
  }
}

TEST(Crew, ManyThreadsRestOneForFewerStallsThanTwoThreadsDo) {
  for (const int workers : {1, 15}) {
    CrewAtWork w(workers);
    for (int i = 0; i < 20 && w.crew.is_complete(); ++i) {
      w.run_quick_loops(milliseconds(40));
      w.run_stalled_loop();
    }
    EXPECT_EQ(w.crew.size(), workers == 1 ? 1 : 14);
  }
}

TEST(Crew, FrequentStallsRestOneAfterTheOther) {
  CrewAtWork w(2);
  for (int i = 0; i < 100 && w.crew.size() > 0; ++i) w.run_stalled_loop();
  EXPECT_EQ(w.crew.size(), 0);
  w.crew.stalled(w.now, kSlice);
  EXPECT_EQ(w.crew.size(), 0) << "the caller alone goes on";
}

TEST(Crew, RestsGrowWhileDisturbedAndShrinkAfterQuiet) {
  CrewAtWork w(1);
  // Ten seconds beside a busy process: slices are lost soon after every return.
  Crew::Duration together{};
  const auto end = w.now + std::chrono::seconds(10);
  while (w.now < end) {
    const auto before = w.now;
    if (w.crew.size() == 0) {
      w.run_quick_loops(kQuick);
      continue;
    }
    w.run_quick_loops(milliseconds(3));
    w.run_stalled_loop();
    together += w.now - before;
  }
  EXPECT_LT(together, milliseconds(300));

  // The other process has gone: the worker is back within the longest rest, and stays.
  w.run_quick_loops(Crew::kLongestRest + 2 * kQuick);
  EXPECT_EQ(w.crew.size(), 1);
  w.run_quick_loops(std::chrono::seconds(1));
  EXPECT_EQ(w.crew.size(), 1);

  // Every rest after quiet is shorter than the last, down to the shortest.
  for (auto rest = Crew::kLongestRest / Crew::kStep; rest > Crew::kShortestRest / Crew::kStep;
       rest /= Crew::kStep) {
    while (w.crew.size() == 1) w.run_stalled_loop();
    w.run_quick_loops(std::max<Crew::Duration>(rest, Crew::kShortestRest) - kQuick);
    EXPECT_EQ(w.crew.size(), 0);
    w.run_quick_loops(3 * kQuick);
    EXPECT_EQ(w.crew.size(), 1);
    w.run_quick_loops(std::chrono::seconds(1));
  }
}

TEST(ThreadPool, ManyTinyLoopsOfEverySize) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    std::vector<int> seen(64);
    for (int loop = 0; loop < 4000; ++loop) {
      const std::int64_t count = loop % 64, chunk = 1 + loop % 5;
      std::fill(seen.begin(), seen.end(), 0);
      pool.parallel_for(count, chunk, [&](std::int64_t begin, std::int64_t end) {
        EXPECT_LE(end - begin, chunk);
        for (std::int64_t i = begin; i < end; ++i)
          ++seen[static_cast<std::size_t>(i)];  // one piece each: no race
      });
      ASSERT_EQ(std::accumulate(seen.begin(), seen.end(), 0), count);
      for (std::int64_t i = 0; i < count; ++i) ASSERT_EQ(seen[static_cast<std::size_t>(i)], 1);
    }
  }
}

/// How often the calling thread has gone to sleep.
long sleeps() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

TEST(ThreadPool, LoopsEndWithoutWorkersThatDoNotCome) {
  // All threads on one processor: workers come late or never, and loops end all the same without
  // waiting for them.
  cpu_set_t before;
  CPU_ZERO(&before);
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  constexpr int kLoops = 1000;
  long slept = 0;
  {
    ThreadPool pool(4);
    const long at_start = sleeps();
    for (int loop = 0; loop < kLoops; ++loop) {
      std::vector<int> out(50);
      pool.parallel_for(50, 1, [&](std::int64_t i, std::int64_t) {
        out[static_cast<std::size_t>(i)] = static_cast<int>(i) + loop;
      });
      for (int i = 0; i < 50; ++i) ASSERT_EQ(out[static_cast<std::size_t>(i)], i + loop);
    }
    slept = sleeps() - at_start;
  }
  sched_setaffinity(0, sizeof(before), &before);
  EXPECT_LT(slept, kLoops / 50) << "only where a worker was stopped with a piece in its hands";
}

TEST(ThreadPool, SleepingWorkersWakeAndLateOnesAreWaitedFor) {
  ThreadPool pool(3);
  for (int loop = 0; loop < 30; ++loop) {
    std::this_thread::sleep_for(milliseconds(loop % 3));  // workers are asleep, or about to be
    std::atomic<int> done = 0;
    pool.parallel_for(6, 1, [&](std::int64_t i, std::int64_t) {
      std::this_thread::sleep_for(microseconds(i == loop % 6 ? 3000 : 100));
      ++done;
    });
    ASSERT_EQ(done, 6);
  }
}

TEST(ThreadPool, WorkersHelpWhereThereAreProcessorsForThem) {
  ThreadPool pool(2);
  const auto caller = std::this_thread::get_id();
  std::atomic<int> by_worker = 0;
  for (int loop = 0; loop < 2000 && by_worker == 0; ++loop)
    pool.parallel_for(4, 1, [&](std::int64_t, std::int64_t) {
      if (std::this_thread::get_id() != caller) ++by_worker;
      std::this_thread::sleep_for(microseconds(200));
    });
  EXPECT_GT(by_worker, 0);
}

TEST(ThreadPool, EachThreadBeginsWithItsOwnShare) {
  ThreadPool pool(2);
  const auto caller = std::this_thread::get_id();
  int loops_with_worker = 0;
  for (int loop = 0; loop < 500 && loops_with_worker < 20; ++loop) {
    std::int64_t first_of_worker = -1;
    pool.parallel_for(24, 3, [&](std::int64_t begin, std::int64_t) {
      if (std::this_thread::get_id() != caller && first_of_worker < 0) first_of_worker = begin;
      std::this_thread::sleep_for(microseconds(100));
    });
    if (first_of_worker < 0) continue;
    EXPECT_GE(first_of_worker, 12) << "the caller's come when none of the own is left";
    ++loops_with_worker;
  }
  EXPECT_GT(loops_with_worker, 0);
}

TEST(ThreadPool, FirstErrorOfTheLoopForAnyNumberOfThreads) {
  for (const int threads : {1, 2, 6}) {
    ThreadPool pool(threads);
    for (int loop = 0; loop < 300; ++loop) {
      std::string message;
      try {
        pool.parallel_for(200, 1, [&](std::int64_t i, std::int64_t) {
          if (i == 70) std::this_thread::yield();
          require(i < 70, ErrorCode::kNumeric, "at ", i);
        });
      } catch (const Error& e) {
        message = e.what();
      }
      ASSERT_EQ(message, "at 70");
    }
    int sum = 0;
    pool.parallel_for(1, 1, [&](std::int64_t, std::int64_t) { ++sum; });
    EXPECT_EQ(sum, 1);
  }
}

TEST(ThreadPool, NestedLoopsAndErrorsFromThem) {
  ThreadPool pool(4);
  for (int loop = 0; loop < 200; ++loop) {
    std::atomic<std::int64_t> sum = 0;
    pool.parallel_for(8, 1, [&](std::int64_t i, std::int64_t) {
      pool.parallel_for(16, 2,
                        [&](std::int64_t begin, std::int64_t end) { sum += i * (end - begin); });
    });
    ASSERT_EQ(sum, 28 * 16);
    EXPECT_THROW(pool.parallel_for(8, 1,
                                   [&](std::int64_t i, std::int64_t) {
                                     pool.parallel_for(4, 1, [&](std::int64_t j, std::int64_t) {
                                       require(i != 3 || j != 2, ErrorCode::kNumeric, "nested");
                                     });
                                   }),
                 Error);
  }
}

TEST(ThreadPool, LoopsOfSeveralThreadsTakeTurns) {
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  std::atomic<std::int64_t> sum = 0;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      for (int loop = 0; loop < 200; ++loop)
        pool.parallel_for(20, 3, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum, 4 * 200 * 20);
}

TEST(ThreadPool, PoolsComeAndGo) {
  for (int i = 0; i < 200; ++i) {
    ThreadPool pool(1 + i % 5);
    std::atomic<int> sum = 0;
    if (i % 3 != 0) pool.parallel_for(10, 1, [&](std::int64_t, std::int64_t) { ++sum; });
    EXPECT_EQ(sum, i % 3 != 0 ? 10 : 0);
  }
}

TEST(ThreadPool, SameBytesForAnyNumberOfThreads) {
  const auto compute = [](int threads) {
    ThreadPool pool(threads);
    std::vector<float> parts(334), out(1000);
    for (int loop = 0; loop < 50; ++loop) {
      pool.parallel_for(1000, 3, [&](std::int64_t begin, std::int64_t end) {
        float sum = 0;
        for (std::int64_t i = begin; i < end; ++i)
          sum += out[static_cast<std::size_t>(i)] = std::sin(static_cast<float>(i + loop));
        parts[static_cast<std::size_t>(begin / 3)] += sum;
      });
    }
    return parts;
  };
  const std::vector<float> one = compute(1);
  for (const int threads : {2, 3, 7}) EXPECT_EQ(one, compute(threads)) << threads;
}

}  // namespace
}  // namespace quell
