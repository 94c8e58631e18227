// Ticks people can read, curves that stay small, and pictures that are well-formed.
#include "quell/job/line_chart.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace quell {
namespace {

using TickLabels = std::vector<std::string>;

TickLabels linear_labels(double low, double high, int count, double closest = 0) {
  return tick_labels(linear_ticks(low, high, count, closest));
}

std::size_t occurrences(const std::string& text, const std::string& word) {
  std::size_t count = 0;
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1))
    ++count;
  return count;
}

TEST(LineChart, TicksAreRoundNumbers) {
  EXPECT_EQ(linear_labels(0, 1, 5), (TickLabels{"0.0", "0.2", "0.4", "0.6", "0.8", "1.0"}));
  EXPECT_EQ(linear_labels(79.3, 81.7, 5), (TickLabels{"79.5", "80.0", "80.5", "81.0", "81.5"}));
  EXPECT_EQ(linear_labels(-3, 12, 4), (TickLabels{"0", "5", "10"}));
  EXPECT_EQ(linear_labels(0, 2e-5, 4), (TickLabels{"0", "5e-6", "1e-5", "1.5e-5", "2e-5"}));
  EXPECT_EQ(linear_labels(1e6, 4e6, 3), (TickLabels{"1e6", "2e6", "3e6", "4e6"}));
  EXPECT_EQ(linear_labels(0, 12000, 6),
            (TickLabels{"0", "2000", "4000", "6000", "8000", "10000", "12000"}));
}

TEST(LineChart, TicksOfStepsAreWhole) {
  EXPECT_EQ(linear_labels(0, 3, 6, 1), (TickLabels{"0", "1", "2", "3"}));
  EXPECT_EQ(linear_labels(0, 1, 6, 1), (TickLabels{"0", "1"}));
}

TEST(LineChart, TicksStayInsideAndAreNotTooMany) {
  for (double low = -7.3; low < 1e5; low = low * 3 + 25)
    for (double span = 1e-4; span < 1e9; span *= 2.7) {
      const std::vector<double> ticks = linear_ticks(low, low + span, 5);
      ASSERT_GE(ticks.size(), 2U) << low << " " << span;
      EXPECT_LE(ticks.size(), 7U) << low << " " << span;
      EXPECT_GE(ticks.front(), low - span * 1e-6);
      EXPECT_LE(ticks.back(), low + span * (1 + 1e-6));

      const TickLabels labels = tick_labels(ticks);
      for (std::size_t i = 1; i < labels.size(); ++i) EXPECT_NE(labels[i], labels[i - 1]);
    }
  EXPECT_TRUE(linear_ticks(1, 1, 5).empty());
  EXPECT_TRUE(linear_ticks(0, std::numeric_limits<double>::infinity(), 5).empty());
}

TEST(LineChart, LogarithmicTicks) {
  EXPECT_EQ(logarithmic_ticks(0.01, 20), (std::vector<double>{0.01, 0.1, 1, 10}));
  EXPECT_EQ(logarithmic_ticks(0.9, 101), (std::vector<double>{1, 2, 5, 10, 20, 50, 100}));
  const std::vector<double> many = logarithmic_ticks(1e-12, 1e12);
  EXPECT_GE(many.size(), 4U);
  EXPECT_LE(many.size(), 7U);
}

TEST(LineChart, ShortNumbers) {
  EXPECT_EQ(short_number(81.2468), "81.25");
  EXPECT_EQ(short_number(2e-5), "2e-5");
  EXPECT_EQ(short_number(123456.7), "123457");
  EXPECT_EQ(short_number(1.5e10), "1.5e10");
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(std::nan("")), "not finite");
}

TEST(LineChart, ThinnedCurvesKeepPeaksAndEnds) {
  std::vector<ChartPoint> points;
  for (int i = 0; i < 50000; ++i) points.push_back({i * 1.0, std::sin(i * 0.01)});
  points[31234].y = 7;
  points[777].y = -7;
  const std::vector<ChartPoint> thin = thin_out(points, 1000);
  EXPECT_LE(thin.size(), 1000U);
  EXPECT_GE(thin.size(), 900U);
  EXPECT_EQ(thin.front().x, 0);
  EXPECT_EQ(thin.back().x, 49999);

  const auto lower = [](const ChartPoint& a, const ChartPoint& b) { return a.y < b.y; };
  EXPECT_EQ(std::max_element(thin.begin(), thin.end(), lower)->x, 31234);
  EXPECT_EQ(std::min_element(thin.begin(), thin.end(), lower)->x, 777);
  for (std::size_t i = 1; i < thin.size(); ++i) EXPECT_LT(thin[i - 1].x, thin[i].x);

  points.resize(1000);
  EXPECT_EQ(thin_out(points, 1000).size(), 1000U) << "few points stay as they are";
}

TEST(LineChart, ThinnedCurvesKeepGaps) {
  std::vector<ChartPoint> points;
  for (int i = 0; i < 10000; ++i) points.push_back({i * 1.0, i * 1.0});
  for (int i = 4000; i < 6000; ++i) points[static_cast<std::size_t>(i)].y = std::nan("");
  points[9000].y = std::nan("");  // neighbours cover it
  const std::vector<ChartPoint> thin = thin_out(points, 100);
  const auto is_gap = [](const ChartPoint& p) { return std::isnan(p.y); };
  const auto gaps = std::count_if(thin.begin(), thin.end(), is_gap);
  EXPECT_GT(gaps, 5);
  EXPECT_LT(gaps, 30);
  for (const ChartPoint& p : thin) EXPECT_TRUE(!is_gap(p) || (p.x >= 4000 && p.x < 6000)) << p.x;
}

TEST(LineChart, AGapBreaksTheLine) {
  LineChart chart{.title = "loss"};
  chart.curves.push_back(
      {.name = "a", .points = {{1, 3}, {2, 2}, {3, std::nan("")}, {4, 1}, {5, 1}}});
  EXPECT_EQ(occurrences(line_chart_svg(chart), "<polyline"), 2U);
  chart.curves[0].points[4].y = std::nan("");
  const std::string svg = line_chart_svg(chart);
  EXPECT_EQ(occurrences(svg, "<polyline"), 1U);
  EXPECT_EQ(occurrences(svg, "<circle"), 3U) << "a point alone is no line, but a dot";
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(LineChart, LogarithmicOnlyBeyondTwoDecades) {
  const auto is_logarithmic = [](std::vector<ChartPoint> points, bool allowed) {
    LineChart chart{.title = "loss", .may_be_logarithmic = allowed};
    chart.curves.push_back({.name = "a", .points = std::move(points)});
    return line_chart_svg(chart).find("logarithmic") != std::string::npos;
  };
  EXPECT_TRUE(is_logarithmic({{1, 500}, {2, 1}}, true));
  EXPECT_FALSE(is_logarithmic({{1, 500}, {2, 1}}, false));
  EXPECT_FALSE(is_logarithmic({{1, 50}, {2, 1}}, true));
  EXPECT_FALSE(is_logarithmic({{1, 500}, {2, 1}, {3, 0}}, true));
}

TEST(LineChart, CurvesOfOneValueHaveAPlace) {
  for (const double value : {0.0, 3.0, -1e-9, 1e30}) {
    LineChart chart{.title = "flat"};
    chart.curves.push_back({.name = "a", .points = {{1, value}, {2, value}}});
    const std::string svg = line_chart_svg(chart);
    EXPECT_EQ(svg.find("nan"), std::string::npos) << value;
    EXPECT_EQ(svg.find("inf"), std::string::npos) << value;
    EXPECT_GE(occurrences(svg, "class=\"axis\""), 2U) << value;
  }
}

TEST(LineChart, NamesAreEscapedAndColorsRepeatWithDashes) {
  LineChart chart{.title = "<loss> & \"more\""};
  for (std::size_t i = 0; i < 9; ++i)
    chart.curves.push_back(
        {.name = "<b>", .points = {{1, 1}, {2, 2}}, .color = i, .ring = ChartPoint{2, 2}});
  const std::string svg = line_chart_svg(chart);
  EXPECT_EQ(svg.find("<b>"), std::string::npos);
  EXPECT_NE(svg.find("aria-label=\"&lt;loss&gt; &amp; &quot;more&quot;\""), std::string::npos);
  EXPECT_EQ(occurrences(svg, "class=\"curve c0\""), 2U);
  EXPECT_EQ(occurrences(svg, "stroke-dasharray"), 1U);
  EXPECT_EQ(occurrences(svg, "class=\"ring "), 9U);
}

}  // namespace
}  // namespace quell
