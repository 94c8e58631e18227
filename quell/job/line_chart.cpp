#include "quell/job/line_chart.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>

#include "quell/job/html_page.h"
#include "quell/job/report.h"

namespace quell {
namespace {

// In units of the view box, which are pixels where the page is wide enough.
constexpr double kChartWidth = 500, kChartHeight = 230;
constexpr double kLeftMargin = 52, kRightMargin = 14, kTopMargin = 14, kBottomMargin = 36;
constexpr double kAxisRight = kChartWidth - kRightMargin;
constexpr double kAxisBottom = kChartHeight - kBottomMargin;
constexpr int kTicksOfSteps = 6, kTicksOfValues = 6;
constexpr std::size_t kMostDots = 50;     // evaluations show where they were; steps are too many
constexpr double kLogarithmicFrom = 100;  // largest value over smallest

struct CurveColor {
  const char* light;
  const char* dark;
};
constexpr CurveColor kCurveColors[] = {
    {"#2563a8", "#6aa6e8"}, {"#d9730d", "#f2a154"}, {"#1f8a4c", "#5fc98a"}, {"#c026a3", "#e77fd3"},
    {"#0b93a8", "#4fd0e0"}, {"#8a5a2b", "#c79a6b"}, {"#c81e3a", "#f4727f"}, {"#7a7a00", "#c9c93f"},
};
constexpr std::size_t kNumColors = std::size(kCurveColors);

struct Extent {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void include(double v) {
    if (!std::isfinite(v)) return;
    low = std::min(low, v);
    high = std::max(high, v);
  }
  bool empty() const { return low > high; }
};

/// A little room around the values, and some for those that are all (nearly) one.
Extent with_margins(Extent extent) {
  constexpr double kMargin = 0.1, kNarrowest = 1e-6;
  const double size = std::max(std::abs(extent.low), std::abs(extent.high));
  const double span = extent.high - extent.low;
  double margin = span * kMargin;
  if (span <= size * kNarrowest) margin = size > 0 ? size * kMargin : 1;
  return {extent.low - margin, extent.high + margin};
}

/// Where points of the data lie in the picture.
class ChartAxes {
 public:
  explicit ChartAxes(const LineChart& chart) {
    Extent values;
    for (const ChartCurve& curve : chart.curves)
      for (const ChartPoint& point : curve.points) {
        if (std::isfinite(point.y)) last_step_ = std::max(last_step_, point.x);
        values.include(point.y);
      }
    if (values.empty()) values = {0, 1};

    logarithmic_ =
        chart.may_be_logarithmic && values.low > 0 && values.high / values.low > kLogarithmicFrom;
    if (logarithmic_) values = {std::log10(values.low), std::log10(values.high)};
    values_ = with_margins(values);
    const bool below_zero = !logarithmic_ && values.low >= 0 && values_.low < 0;
    if (below_zero) values_.low = 0;
  }

  double x(double step) const {
    return kLeftMargin + step / last_step_ * (kAxisRight - kLeftMargin);
  }
  double y(double value) const {
    const double v = logarithmic_ ? std::log10(value) : value;
    const double share = (v - values_.low) / (values_.high - values_.low);
    return kAxisBottom - share * (kAxisBottom - kTopMargin);
  }
  std::vector<double> steps() const { return linear_ticks(0, last_step_, kTicksOfSteps, 1); }
  std::vector<double> values() const {
    if (!logarithmic_) return linear_ticks(values_.low, values_.high, kTicksOfValues);
    return logarithmic_ticks(std::pow(10, values_.low), std::pow(10, values_.high));
  }
  std::vector<std::string> labels_of_values(const std::vector<double>& values) const {
    if (!logarithmic_) return tick_labels(values);
    std::vector<std::string> labels;
    for (const double value : values) labels.push_back(short_number(value));
    return labels;
  }
  bool logarithmic() const { return logarithmic_; }

 private:
  double last_step_ = 1;
  Extent values_;  ///< logarithms of them, where the axis is logarithmic
  bool logarithmic_ = false;
};

std::string axes_svg(const ChartAxes& axes) {
  std::string svg;
  const std::vector<double> values = axes.values();
  const std::vector<std::string> labels = axes.labels_of_values(values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double y = axes.y(values[i]);
    svg += format_text("<line class=\"axis\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>",
                       kLeftMargin, kAxisRight, y, y);
    svg += format_text("<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%s</text>", kLeftMargin - 6,
                       y + 4, labels[i].c_str());
  }

  const std::vector<double> steps = axes.steps();
  const std::vector<std::string> numbers = tick_labels(steps);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const double x = axes.x(steps[i]);
    svg += format_text("<line class=\"tick\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.0f\" y2=\"%.0f\"/>", x,
                       x, kAxisBottom, kAxisBottom + 4);
    svg += format_text("<text x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\">%s</text>", x,
                       kAxisBottom + 16, numbers[i].c_str());
  }
  svg += format_text("<line class=\"tick\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.0f\" y2=\"%.0f\"/>",
                     kLeftMargin, kAxisRight, kAxisBottom, kAxisBottom);
  svg += format_text("<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">step</text>\n", kAxisRight,
                     kAxisBottom + 31);
  if (axes.logarithmic()) svg += "<text x=\"0\" y=\"10\">logarithmic</text>\n";
  return svg;
}

/// class="curve c1 thin" and, where the colors are used up, dashes.
std::string line_attributes(std::size_t color, bool thin) {
  const std::size_t round = color / kNumColors;
  const std::string dashes =
      round > 0 ? format_text(" stroke-dasharray=\"%zu 4\"", 4 * round) : std::string();
  return format_text("class=\"curve c%zu%s\"%s", color % kNumColors, thin ? " thin" : "",
                     dashes.c_str());
}

std::string dot_svg(const ChartCurve& curve, const ChartPoint& point, const ChartAxes& axes) {
  return format_text("<circle class=\"dot c%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"2\"/>",
                     curve.color % kNumColors, axes.x(point.x), axes.y(point.y));
}

std::string curve_svg(const ChartCurve& curve, const ChartAxes& axes) {
  const std::vector<ChartPoint> points = thin_out(curve.points, kMostChartPoints);
  std::string svg;
  for (auto begin = points.begin(); begin != points.end();) {
    const auto is_gap = [](const ChartPoint& p) { return !std::isfinite(p.y); };
    begin = std::find_if_not(begin, points.end(), is_gap);
    const auto end = std::find_if(begin, points.end(), is_gap);
    if (end - begin > 1) {
      svg += "<polyline " + line_attributes(curve.color, curve.thin) + " points=\"";
      for (auto p = begin; p != end; ++p)
        svg += format_text("%s%.1f,%.1f", p == begin ? "" : " ", axes.x(p->x), axes.y(p->y));
      svg += "\"><title>" + escape_html(curve.name) + "</title></polyline>\n";
    }
    const bool alone = end - begin == 1;
    if (alone || points.size() <= kMostDots)
      for (auto p = begin; p != end; ++p) svg += dot_svg(curve, *p, axes);
    begin = end;
  }
  return svg;
}

std::string ring_svg(const ChartCurve& curve, const ChartAxes& axes) {
  if (!curve.ring) return "";

  const double x = axes.x(curve.ring->x);
  const double y = axes.y(curve.ring->y);
  std::string svg =
      format_text("<circle class=\"ring c%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"><title>",
                  curve.color % kNumColors, x, y) +
      escape_html(curve.name) + format_text(", step %.0f: ", curve.ring->x) +
      short_number(curve.ring->y) + "</title></circle>";
  if (curve.ring_label.empty()) return svg + "\n";

  // Inside of the picture, and off the line: it lies below its largest value, above its smallest.
  const bool left = x > (kLeftMargin + kAxisRight) / 2;
  const bool below = y > (kTopMargin + kAxisBottom) / 2;
  svg += format_text("<text class=\"ring-label\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">",
                     left ? x + 5 : x - 5, below ? y + 16 : y - 9, left ? "end" : "start");
  return svg + escape_html(curve.ring_label) + "</text>\n";
}

/// "1.5e-5", where printf writes "1.50e-05".
std::string without_padding(const std::string& number) {
  const std::size_t e = number.find('e');
  if (e == std::string::npos) return number;

  std::string mantissa = number.substr(0, e);
  if (mantissa.find('.') != std::string::npos) mantissa.erase(mantissa.find_last_not_of('0') + 1);
  if (mantissa.ends_with('.')) mantissa.pop_back();
  const std::string sign = number[e + 1] == '-' ? "-" : "";
  return mantissa + "e" + sign + number.substr(number.find_first_not_of("+-0", e + 1));
}

int decimal_exponent(double value) {
  constexpr double kRounding = 1e-9;  // 0.001 is a little less than 10^-3
  return static_cast<int>(std::floor(std::log10(std::abs(value)) + kRounding));
}

/// 1.5e-5, with as many digits as a step of 10^`step_exponent` needs.
std::string scientific(double value, int step_exponent) {
  if (value == 0) return "0";
  const int digits = std::max(0, decimal_exponent(value) - step_exponent);
  return without_padding(format_text("%.*e", digits, value));
}

}  // namespace

std::vector<ChartPoint> thin_out(const std::vector<ChartPoint>& points, std::size_t most) {
  if (points.size() <= most) return points;

  const std::size_t inner = points.size() - 2;
  const std::size_t buckets = (most - 2) / 2;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto value = [](const ChartPoint& p, double gap) { return std::isfinite(p.y) ? p.y : gap; };
  const auto lower = [&](const ChartPoint& a, const ChartPoint& b) {
    return value(a, kInfinity) < value(b, kInfinity);
  };
  const auto not_as_high = [&](const ChartPoint& a, const ChartPoint& b) {
    return value(a, -kInfinity) < value(b, -kInfinity);
  };

  std::vector<ChartPoint> out = {points.front()};
  for (std::size_t b = 0; b < buckets; ++b) {
    const auto begin = points.begin() + 1 + static_cast<std::ptrdiff_t>(b * inner / buckets);
    const auto end = points.begin() + 1 + static_cast<std::ptrdiff_t>((b + 1) * inner / buckets);
    const auto low = std::min_element(begin, end, lower);
    const auto high = std::max_element(begin, end, not_as_high);
    out.push_back(*std::min(low, high));
    if (low != high) out.push_back(*std::max(low, high));
  }
  out.push_back(points.back());
  return out;
}

std::vector<double> linear_ticks(double low, double high, int count, double closest) {
  constexpr double kRounding = 1e-9;
  const double span = high - low;
  const double size = std::max(std::abs(low), std::abs(high));
  if (!std::isfinite(span) || span <= size * kRounding) return {};

  const double power = std::pow(10, decimal_exponent(span / count));
  double step = 10 * power;
  for (const double factor : {5, 2, 1})
    if (factor * power * (1 + kRounding) >= span / count) step = factor * power;
  step = std::max(step, closest);

  std::vector<double> ticks;
  const auto last = static_cast<std::int64_t>(std::floor(high / step + kRounding));
  for (auto k = static_cast<std::int64_t>(std::ceil(low / step - kRounding)); k <= last; ++k)
    ticks.push_back(static_cast<double>(k) * step);
  return ticks;
}

std::vector<double> logarithmic_ticks(double low, double high) {
  constexpr int kFewDecades = 2, kMostDecades = 6;
  const int first = static_cast<int>(std::floor(std::log10(low)));
  const int last = static_cast<int>(std::ceil(std::log10(high)));
  const int decades = static_cast<int>(std::floor(std::log10(high / low)));
  const int stride = 1 + decades / kMostDecades;

  std::vector<double> ticks;
  for (int decade = first; decade <= last; ++decade) {
    if (decade % stride != 0) continue;
    for (const double factor : {1, 2, 5}) {
      const double tick = factor * std::pow(10, decade);
      const bool shown = factor == 1 || decades <= kFewDecades;
      if (shown && tick >= low && tick <= high) ticks.push_back(tick);
    }
  }
  return ticks;
}

std::vector<std::string> tick_labels(const std::vector<double>& ticks) {
  constexpr double kMostPlain = 1e6, kLeastPlain = 1e-3;
  double largest = 0;
  for (const double tick : ticks) largest = std::max(largest, std::abs(tick));
  const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : largest;
  const bool plain = largest == 0 || (largest < kMostPlain && largest >= kLeastPlain);
  const int step_exponent = step > 0 ? decimal_exponent(step) : 0;

  std::vector<std::string> labels;
  for (const double tick : ticks)
    labels.push_back(plain ? format_text("%.*f", std::max(0, -step_exponent), tick)
                           : scientific(tick, step_exponent));
  return labels;
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return "not finite";
  const bool plain = std::abs(value) >= 1e4 && std::abs(value) < 1e7;
  return without_padding(format_text(plain ? "%.0f" : "%.4g", value));
}

std::string line_chart_svg(const LineChart& chart) {
  const ChartAxes axes(chart);
  std::string svg = format_text("<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"",
                                kChartWidth, kChartHeight) +
                    escape_html(chart.title) + "\">\n" + axes_svg(axes);
  for (const ChartCurve& curve : chart.curves)
    if (curve.thin) svg += curve_svg(curve, axes);
  for (const ChartCurve& curve : chart.curves)
    if (!curve.thin) svg += curve_svg(curve, axes);
  for (const ChartCurve& curve : chart.curves) svg += ring_svg(curve, axes);
  return svg + "</svg>\n";
}

std::string line_chart_key(std::size_t color, bool thin) {
  return "<svg class=\"key\" viewBox=\"0 0 22 8\" aria-hidden=\"true\"><line " +
         line_attributes(color, thin) + " x1=\"1\" x2=\"21\" y1=\"4\" y2=\"4\"/></svg>";
}

std::string line_chart_style() {
  std::string light, dark, classes;
  for (std::size_t i = 0; i < kNumColors; ++i) {
    light += format_text("--c%zu:%s;", i, kCurveColors[i].light);
    dark += format_text("--c%zu:%s;", i, kCurveColors[i].dark);
    classes += format_text(".c%zu{--curve:var(--c%zu)}", i, i);
  }
  return ":root{" + light + "}\n@media(prefers-color-scheme:dark){:root{" + dark + "}}\n" +
         classes + R"(
.curve{fill:none;stroke:var(--curve);stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}.thin{stroke-width:.9}
.dot{fill:var(--curve)}.ring{fill:none;stroke:var(--curve);stroke-width:1.8}.tick{stroke:var(--soft)}
svg text.ring-label{fill:var(--ink);paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}
svg.key{display:inline-block;width:22px;height:8px;margin-right:6px}
)";
}

}  // namespace quell
