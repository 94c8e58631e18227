#include "quell/compress/student_t.h"

#include <gtest/gtest.h>

#include <cmath>

#include "quell/base/random.h"

namespace quell {
namespace {

TEST(StudentT, TailsOfStudentsT) {
  // One-sided 0.05, 0.005 and 0.0001 points of published tables.
  EXPECT_NEAR(student_t_tail(6.314, 1), 0.05, 1e-5);
  EXPECT_NEAR(student_t_tail(2.920, 2), 0.05, 1e-5);
  EXPECT_NEAR(student_t_tail(5.841, 3), 0.005, 1e-6);
  EXPECT_NEAR(student_t_tail(13.034, 4), 1e-4, 1e-7);
  EXPECT_NEAR(student_t_tail(2.228, 10), 0.025, 1e-5);
  EXPECT_NEAR(student_t_tail(3.291, 100000), 0.0005, 1e-6);
  EXPECT_NEAR(student_t_tail(-2.228, 10), 0.975, 1e-5);
  EXPECT_NEAR(student_t_tail(3.0, 1000) / student_t_tail(3.0, 1001), 1, 3e-2)
      << "where the normal distribution takes over";
}

TEST(PairedTest, FindsWhatChanceDoesNotExplain) {
  Random random(3);
  const auto run = [&](double mean, int count, double population) {
    PairedTest test;
    for (int i = 0; i < count; ++i) test.add(mean + random.uniform() - 0.5);
    return test.is_positive(population);
  };
  EXPECT_FALSE(run(10, 2, 100)) << "two say nothing";
  EXPECT_TRUE(run(10, 5, 100));
  EXPECT_FALSE(run(-10, 50, 100));
  int positive = 0;
  for (int i = 0; i < 5000; ++i) positive += run(0, 40, 1e9) ? 1 : 0;
  EXPECT_LE(positive, 3) << "of 5000, 0.5 expected";
  EXPECT_TRUE(run(0.2, 400, 1e9));
  PairedTest all;
  for (const double d : {5.0, -4.0, -0.9}) all.add(d);
  EXPECT_FALSE(all.is_positive(100));
  EXPECT_TRUE(all.is_positive(3)) << "nothing is left to chance where all are drawn";
}

}  // namespace
}  // namespace quell
