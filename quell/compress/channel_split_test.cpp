#include "quell/compress/channel_split.h"

#include <gtest/gtest.h>

#include <cmath>

namespace quell {
namespace {

std::vector<int> counts(const ColumnSources& sources, std::size_t channels) {
  std::vector<int> out(channels);
  for (const std::int32_t j : sources) ++out[static_cast<std::size_t>(j)];
  return out;
}

TEST(ChannelSplit, EveryChannelGetsAsManyColumnsAsItsScale) {
  const std::vector<float> scale = {1, 3.2F, 1, 8};
  EXPECT_EQ(counts(split_channels(scale, 100, 1), 4), (std::vector<int>{1, 4, 1, 8}));
  EXPECT_TRUE(split_channels(std::vector<float>{1, 1}, 100, 1).empty());
  EXPECT_TRUE(split_channels(scale, 15, 16).empty());  // less than a unit
}

TEST(ChannelSplit, UnitsAreFilledWithTheNeediestChannels) {
  const ColumnSources sources = split_channels(std::vector<float>{1, 3.2F, 1, 8}, 100, 16);
  ASSERT_EQ(sources.size(), 4U + 16U);
  const std::vector<int> n = counts(sources, 4);
  EXPECT_GE(n[1], 4);
  EXPECT_GE(n[3], 8);
  for (int j = 0; j < 4; ++j) EXPECT_EQ(sources[static_cast<std::size_t>(j)], j);
}

TEST(ChannelSplit, ASmallBudgetIsSharedByNeed) {
  const ColumnSources sources = split_channels(std::vector<float>{1, 30, 1, 10}, 8, 1);
  EXPECT_LE(sources.size(), 12U);
  const std::vector<int> n = counts(sources, 4);
  EXPECT_GT(n[1], 2 * n[3] - 2);
  EXPECT_GE(n[1] + n[3], 8);
}

TEST(ChannelSplit, ShiftedCopiesRoundAsOneFineChannel) {
  const std::vector<float> scale = {4};
  constexpr float kStep = 0.125F;
  for (const std::int64_t more : {1, 2, 3, 6}) {
    const ColumnSources sources(static_cast<std::size_t>(more + 1), 0);
    const Tensor shift = copy_shifts(sources, scale, kStep);
    const auto k = static_cast<double>(sources.size());
    double all = 0;
    for (const float s : shift.f32()) all += static_cast<double>(s);
    EXPECT_NEAR(all, 0, 1e-6);
    for (int i = -200; i < 200; ++i) {
      const double x = 0.0137 * i;
      double codes = 0;
      for (const float s : shift.f32())
        codes += std::nearbyint((x - static_cast<double>(s)) / 4 / static_cast<double>(kStep));
      EXPECT_EQ(codes, std::nearbyint(k * x / 4 / static_cast<double>(kStep))) << x;
    }
  }
}

TEST(ChannelSplit, ProductsStay) {
  Tensor x = Tensor::f32({2, 3}), w = Tensor::f32({4, 3});
  for (std::size_t i = 0; i < 6; ++i) x.f32()[i] = static_cast<float>(i) - 2.5F;
  for (std::size_t i = 0; i < 12; ++i) w.f32()[i] = 0.1F * static_cast<float>(i * i) - 3;
  const ColumnSources sources = {0, 1, 2, 2, 2, 0};
  const Tensor wide_x = repeat_columns(x, sources), wide_w = split_columns(w, sources);
  for (std::int64_t t = 0; t < 2; ++t)
    for (std::int64_t o = 0; o < 4; ++o) {
      float narrow = 0, wide = 0;
      for (std::int64_t j = 0; j < 3; ++j) narrow += x.row(t)[j] * w.row(o)[j];
      for (std::int64_t j = 0; j < 6; ++j) wide += wide_x.row(t)[j] * wide_w.row(o)[j];
      EXPECT_NEAR(wide, narrow, 1e-5);
    }
}

}  // namespace
}  // namespace quell
