#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <limits>
#include <sstream>
#include <vector>

#include "quell/base/aligned_buffer.h"
#include "quell/base/cpu_features.h"
#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/base/scratch_file.h"
#include "quell/base/thread_pool.h"

namespace quell {
namespace {

TEST(ThreadPool, CoversEveryIndexOnceForAnyNumberOfThreads) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (const std::int64_t count : {0, 1, 7, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
      pool.parallel_for(count, 3, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
      });
      for (const auto& s : seen) EXPECT_EQ(s, 1);
    }
  }
}

TEST(ThreadPool, RethrowsAndStaysUsable) {
  ThreadPool pool(3);
  EXPECT_THROW(pool.parallel_for(100, 1,
                                 [](std::int64_t i, std::int64_t) {
                                   require(i != 42, ErrorCode::kNumeric, "at ", i);
                                 }),
               Error);
  std::atomic<int> sum = 0;
  pool.parallel_for(10, 1, [&](std::int64_t i, std::int64_t) {
    pool.parallel_for(2, 1, [&](std::int64_t, std::int64_t) {
      sum += static_cast<int>(i);
    });  // nested loops run inline
  });
  EXPECT_EQ(sum, 90);
}

TEST(ScratchFile, KeepsWhatLeavesMemoryAndLeavesNothingBehind) {
  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() / str("quell-scratch-test-", ::getpid());
  std::filesystem::create_directory(directory);
  {
    constexpr std::size_t kSize = 5 * 4096 + 123;
    AlignedBuffer first, second;
    {
      const auto scratch = std::make_shared<ScratchFile>(directory);  // buffers keep it alive
      EXPECT_TRUE(std::filesystem::is_empty(directory)) << "the file has no name";
      first = AlignedBuffer::in(scratch, kSize);
      second = AlignedBuffer::in(scratch, 1);
    }
    EXPECT_TRUE(first.in_scratch());
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first.data()) % kAlignment, 0U);
    EXPECT_EQ(std::count(first.data(), first.data() + kSize, std::byte{0}),
              static_cast<std::ptrdiff_t>(kSize));
    for (std::size_t i = 0; i < kSize; ++i) first.data()[i] = static_cast<std::byte>(i % 251);
    *second.data() = std::byte{7};
    first.drop_pages();
    second.drop_pages();
    const AlignedBuffer moved = std::move(first);
    for (std::size_t i = 0; i < kSize; ++i)
      ASSERT_EQ(moved.data()[i], static_cast<std::byte>(i % 251)) << i;
    second = AlignedBuffer(3);
    EXPECT_FALSE(second.in_scratch());
    second.drop_pages();  // of the heap: nothing
    EXPECT_EQ(*second.data(), std::byte{0});
  }
  EXPECT_THROW(ScratchFile(directory / "nowhere"), Error);
  EXPECT_THROW(ScratchFile(directory).map(std::size_t{1} << 60), Error) << "no disk has that room";
  std::filesystem::remove_all(directory);
}

template <typename T>
std::string streamed(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

TEST(Error, MessagesAreWordedAsStreamsWordThem) {
  for (const double value :
       {0.0, -0.0, 1.0, 0.1, 1.0 / 3, 1e-5, 123456.0, 1234567.0, 99999.95, 1e100, 5e-324,
        std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
        std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::max()}) {
    EXPECT_EQ(str(value), streamed(value));
    EXPECT_EQ(str(static_cast<float>(value)), streamed(static_cast<float>(value)));
  }
  for (const std::int64_t value :
       {std::int64_t{0}, std::int64_t{-7}, std::numeric_limits<std::int64_t>::min()})
    EXPECT_EQ(str(value), streamed(value));
  EXPECT_EQ(str(std::numeric_limits<std::uint64_t>::max()), "18446744073709551615");
  EXPECT_EQ(str(true, false), "10");

  const std::string name = "x";
  try {
    require(false, ErrorCode::kUsage, name, ' ', std::string_view("of"), " ", -2);
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUsage);
    EXPECT_STREQ(e.what(), "x of -2");
  }
}

TEST(Isa, NamesRoundTrip) {
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512Vnni})
    EXPECT_EQ(isa_from_name(isa_name(isa)), isa);
  EXPECT_FALSE(isa_from_name("mmx").has_value());
  EXPECT_TRUE(cpu_supports(Isa::kPortable));
}

TEST(Random, IsTheSameEverywhere) {
  Random r(1);
  EXPECT_EQ(r.next(), 0x910a2dec89025cc1ULL);
  std::vector<int> items = {1, 2, 3, 4, 5};
  Random(7).shuffle(items);
  std::vector<int> again = {1, 2, 3, 4, 5};
  Random(7).shuffle(again);
  EXPECT_EQ(items, again);
}

}  // namespace
}  // namespace quell
