#include "quell/train_job/engine_comparison.h"

#include <gtest/gtest.h>

#include <cmath>

namespace quell::train {
namespace {

TEST(Agreement, CountsLabelsAndTheLargestDistance) {
  const float trained[] = {1, 3, -5};
  const float same[] = {1, 2.5F, -5};
  const float other[] = {4, 3, -5};
  Agreement agreement;
  agreement.add(trained, same, 3);
  agreement.add(trained, other, 3);
  EXPECT_EQ(agreement.labels, 2);
  EXPECT_EQ(agreement.same, 1);
  EXPECT_EQ(agreement.percent(), 50);
  EXPECT_EQ(agreement.distance, 3);
  EXPECT_EQ(agreement.magnitude, 5);
}

TEST(Agreement, OfNumbersHasNoLabels) {
  const float trained = 2;
  const float other = 2.5F;
  Agreement agreement;
  agreement.add(&trained, &other, 1);
  EXPECT_EQ(agreement.labels, 0);
  EXPECT_EQ(agreement.text(), "logits differ by at most 5.00e-01");
}

/// Whatever comes behind it.
TEST(Agreement, ANumberThatIsNoneStaysTheLargestDistance) {
  const float trained[] = {1, NAN, 2};
  const float other[] = {1, 1, 2};
  Agreement agreement;
  agreement.add(trained, other, 3);
  agreement.add(other, other, 3);
  EXPECT_TRUE(std::isnan(agreement.distance));
}

}  // namespace
}  // namespace quell::train
