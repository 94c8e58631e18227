#include "quell/vision/resize_taps.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

namespace quell {
namespace {

double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double triangle(double x) {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

/// With Pillow's constants, which are f32.
double hamming(double x) {
  x = std::abs(x);
  if (x == 0.0) return 1.0;
  if (x >= 1.0) return 0.0;
  x *= std::numbers::pi;
  return std::sin(x) / x * (static_cast<double>(0.54F) + static_cast<double>(0.46F) * std::cos(x));
}

double cubic(double x) {
  constexpr double kA = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * kA;
  return 0.0;
}

double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double lanczos(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

struct Kernel {
  double (*value)(double);
  double support;
};

Kernel kernel_of(ResizeFilter filter) {
  switch (filter) {
    case ResizeFilter::kBox: return {box, 0.5};
    case ResizeFilter::kHamming: return {hamming, 1.0};
    case ResizeFilter::kBicubic: return {cubic, 2.0};
    case ResizeFilter::kLanczos: return {lanczos, 3.0};
    default: return {triangle, 1.0};
  }
}

IntegerTaps in_units(const FilterTaps& taps, int precision) {
  IntegerTaps integers{taps.spans, {}, precision};
  const double unit = std::ldexp(1.0, precision);
  for (const double weight : taps.weights) {
    const double half_up = weight < 0 ? weight * unit - 0.5 : weight * unit + 0.5;
    integers.weights.push_back(static_cast<std::int32_t>(half_up));
  }
  return integers;
}

std::uint8_t rounded(std::int32_t sum, int precision) {
  return static_cast<std::uint8_t>(std::clamp(sum >> precision, 0, 255));
}

}  // namespace

FilterTaps filter_taps(std::int64_t in, std::int64_t out, ResizeFilter filter) {
  const Kernel kernel = kernel_of(filter);
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double widening = std::max(scale, 1.0);
  const double support = kernel.support * widening;
  const double narrowing = 1.0 / widening;

  FilterTaps taps;
  for (std::int64_t i = 0; i < out; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const auto first = std::max(static_cast<std::int64_t>(center - support + 0.5), std::int64_t{0});
    const auto end = std::min(static_cast<std::int64_t>(center + support + 0.5), in);
    taps.spans.push_back({first, end - first, taps.weights.size()});

    double sum = 0;
    for (std::int64_t j = first; j < end; ++j) {
      const double distance = static_cast<double>(j) - center + 0.5;
      taps.weights.push_back(kernel.value(distance * narrowing));
      sum += taps.weights.back();
    }
    if (sum == 0) continue;
    for (std::size_t w = taps.spans.back().begin; w < taps.weights.size(); ++w)
      taps.weights[w] /= sum;
  }
  return taps;
}

IntegerTaps pillow_taps(const FilterTaps& taps) { return in_units(taps, 22); }

IntegerTaps torch_taps(const FilterTaps& taps) {
  const double largest = *std::max_element(taps.weights.begin(), taps.weights.end());
  int precision = 0;
  while (precision < 22 && static_cast<int>(0.5 + std::ldexp(largest, precision + 1)) < 1 << 15)
    ++precision;
  return in_units(taps, precision);
}

// Sums stay below 2^31: 255 * 2^22 times the sum of the weights' magnitudes, which is below 2.

Image filter_columns(const Image& image, const IntegerTaps& taps) {
  Image out(image.height, static_cast<std::int64_t>(taps.spans.size()), image.channels);
  const std::int64_t channels = image.channels;
  const std::int32_t half = taps.precision > 0 ? 1 << (taps.precision - 1) : 0;

  for (std::int64_t y = 0; y < image.height; ++y) {
    const std::uint8_t* row = image.row(y);
    std::uint8_t* to = out.row(y);
    for (const FilterTaps::Span& span : taps.spans)
      for (std::int64_t c = 0; c < channels; ++c) {
        const std::uint8_t* from = row + span.first * channels + c;
        const std::int32_t* weights = taps.weights.data() + span.begin;
        std::int32_t sum = half;
        for (std::int64_t j = 0; j < span.count; ++j) sum += weights[j] * from[j * channels];
        *to++ = rounded(sum, taps.precision);
      }
  }
  return out;
}

Image filter_rows(const Image& image, const IntegerTaps& taps) {
  Image out(static_cast<std::int64_t>(taps.spans.size()), image.width, image.channels);
  const auto row_size = static_cast<std::size_t>(image.width * image.channels);
  const std::int32_t half = taps.precision > 0 ? 1 << (taps.precision - 1) : 0;
  std::vector<std::int32_t> sums(row_size);

  for (std::int64_t y = 0; y < out.height; ++y) {
    const FilterTaps::Span& span = taps.spans[static_cast<std::size_t>(y)];
    std::fill(sums.begin(), sums.end(), half);
    for (std::int64_t j = 0; j < span.count; ++j) {
      const std::uint8_t* row = image.row(span.first + j);
      const std::int32_t weight = taps.weights[span.begin + static_cast<std::size_t>(j)];
      for (std::size_t x = 0; x < row_size; ++x) sums[x] += weight * row[x];
    }

    std::uint8_t* to = out.row(y);
    for (std::size_t x = 0; x < row_size; ++x) to[x] = rounded(sums[x], taps.precision);
  }
  return out;
}

}  // namespace quell
