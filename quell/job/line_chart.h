// Curves over steps as SVG, for pages in one file: axes, gridlines, lines, rings around points.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace quell {

struct ChartPoint {
  double x = 0;
  double y = 0;  ///< NaN: the line has a gap
};

struct ChartCurve {
  std::string name;
  std::vector<ChartPoint> points = {};  ///< x does not decrease
  std::size_t color = 0;                ///< 0, 1, ...: repeated with dashes where there are no more
  bool thin = false;
  std::optional<ChartPoint> ring = {};  ///< around the best point
  std::string ring_label = {};          ///< beside it; empty: none
};

struct LineChart {
  std::string title;  ///< for readers who do not see it
  std::vector<ChartCurve> curves = {};
  /// Where all values are positive and the largest is more than a hundred times the smallest.
  bool may_be_logarithmic = false;
};

/// Well-formed XML, with the classes of line_chart_style(): a polyline for each stretch of a curve
/// without gaps, thinned out to kMostChartPoints.
std::string line_chart_svg(const LineChart& chart);

/// A short piece of the line with this color, for legends.
std::string line_chart_key(std::size_t color, bool thin);

/// CSS: colors that are told apart in light and in dark.
std::string line_chart_style();

inline constexpr std::size_t kMostChartPoints = 1000;

/// At most `most` points with the same picture: the lowest and the highest of each of equally many
/// neighbours, and both ends. A gap remains where all neighbours are one. `most` is 4 or more.
std::vector<ChartPoint> thin_out(const std::vector<ChartPoint>& points, std::size_t most);

/// Multiples of 1, 2 or 5 times a power of ten in [low, high], about `count` of them, no closer
/// than `closest`. None where `high` is not clearly above `low`.
std::vector<double> linear_ticks(double low, double high, int count, double closest = 0);

/// Powers of ten in [low, high], which are positive; where there are few, their multiples by 2 and
/// 5 too, and where there are many, only some.
std::vector<double> logarithmic_ticks(double low, double high);

/// With as many digits as tell neighbours apart, all in one notation.
std::vector<std::string> tick_labels(const std::vector<double>& ticks);

/// About four digits: 81.25, 12346, 2e-5, "not finite".
std::string short_number(double value);

}  // namespace quell
