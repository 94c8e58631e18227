#include "quell/vision/resize_opencv.h"

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>

namespace quell {
namespace {

/// Half to even, as cvRound.
std::uint8_t to_byte(float value) {
  return static_cast<std::uint8_t>(std::clamp(std::nearbyintf(value), 0.0F, 255.0F));
}

/// Pixels of the input for one of the output, as OpenCV computes it.
double scale_of(std::int64_t in, std::int64_t out) {
  const double inverse = static_cast<double>(out) / static_cast<double>(in);
  return 1.0 / inverse;
}

/// The scale where it is a whole number, else 0.
std::int64_t whole(double scale) {
  const double nearest = std::nearbyint(scale);
  return std::abs(scale - nearest) < DBL_EPSILON ? static_cast<std::int64_t>(nearest) : 0;
}

/// Of one position of the output: two positions of the input and their weights.
struct Neighbours {
  std::int64_t at;
  std::array<std::int32_t, 2> weights;
};

enum class Weights { kBilinear, kArea };

constexpr float kUnit = 2048;

Neighbours neighbours_of(std::int64_t i, std::int64_t in, std::int64_t out, Weights kind) {
  const double scale = scale_of(in, out);
  float fraction = 0;
  std::int64_t at = 0;
  if (kind == Weights::kBilinear) {
    fraction = static_cast<float>((static_cast<double>(i) + 0.5) * scale - 0.5);
    at = static_cast<std::int64_t>(std::floor(fraction));
    fraction -= static_cast<float>(at);
  } else {
    const double inverse = static_cast<double>(out) / static_cast<double>(in);
    at = static_cast<std::int64_t>(std::floor(static_cast<double>(i) * scale));
    fraction =
        static_cast<float>(static_cast<double>(i + 1) - static_cast<double>(at + 1) * inverse);
    fraction = fraction <= 0 ? 0.0F : fraction - std::floor(fraction);
  }

  const auto in_units = [](float weight) {
    return static_cast<std::int32_t>(std::nearbyintf(weight * kUnit));
  };
  return {at, {in_units(1.0F - fraction), in_units(fraction)}};
}

/// Columns outside the image count with the whole weight of the one at the edge.
Neighbours inside(Neighbours n, std::int64_t in) {
  if (n.at >= 0 && n.at < in - 1) return n;
  return {std::clamp(n.at, std::int64_t{0}, in - 1), {static_cast<std::int32_t>(kUnit), 0}};
}

Image blend_neighbours(const Image& image, std::int64_t height, std::int64_t width, Weights kind) {
  const std::int64_t channels = image.channels;
  std::vector<Neighbours> columns;
  for (std::int64_t x = 0; x < width; ++x)
    columns.push_back(inside(neighbours_of(x, image.width, width, kind), image.width));

  const auto blend_columns = [&](std::int64_t y, std::vector<std::int32_t>& out) {
    const std::uint8_t* row = image.row(std::clamp(y, std::int64_t{0}, image.height - 1));
    std::size_t i = 0;
    for (const Neighbours& n : columns) {
      const std::uint8_t* left = row + n.at * channels;
      const std::uint8_t* right = n.weights[1] != 0 ? left + channels : left;
      for (std::int64_t c = 0; c < channels; ++c)
        out[i++] = left[c] * n.weights[0] + right[c] * n.weights[1];
    }
  };

  const auto row_size = static_cast<std::size_t>(width * channels);
  std::vector<std::int32_t> upper(row_size);
  std::vector<std::int32_t> lower(row_size);
  Image out(height, width, channels);
  for (std::int64_t y = 0; y < height; ++y) {
    const Neighbours rows = neighbours_of(y, image.height, height, kind);
    blend_columns(rows.at, upper);
    blend_columns(rows.at + 1, lower);

    // The order of shifts is OpenCV's: its vector code multiplies in 16 bits.
    std::uint8_t* to = out.row(y);
    for (std::size_t x = 0; x < row_size; ++x) {
      const std::int32_t above = (rows.weights[0] * (upper[x] >> 4)) >> 16;
      const std::int32_t below = (rows.weights[1] * (lower[x] >> 4)) >> 16;
      to[x] = static_cast<std::uint8_t>((above + below + 2) >> 2);
    }
  }
  return out;
}

/// Both scales whole numbers: the mean of blocks.
Image mean_of_blocks(const Image& image, std::int64_t block_height, std::int64_t block_width) {
  const std::int64_t channels = image.channels;
  const bool two_by_two = block_height == 2 && block_width == 2;
  const float reciprocal = 1.0F / static_cast<float>(block_height * block_width);

  Image out(image.height / block_height, image.width / block_width, channels);
  for (std::int64_t y = 0; y < out.height; ++y)
    for (std::int64_t x = 0; x < out.width; ++x)
      for (std::int64_t c = 0; c < channels; ++c) {
        std::int32_t sum = 0;
        for (std::int64_t dy = 0; dy < block_height; ++dy) {
          const std::uint8_t* from = image.row(y * block_height + dy) + x * block_width * channels;
          for (std::int64_t dx = 0; dx < block_width; ++dx) sum += from[dx * channels + c];
        }
        std::uint8_t& to = out.row(y)[x * channels + c];
        to = two_by_two ? static_cast<std::uint8_t>((sum + 2) >> 2)
                        : to_byte(static_cast<float>(sum) * reciprocal);
      }
  return out;
}

/// A part of a pixel of the input in one of the output.
struct Share {
  std::int64_t from, to;
  float weight;
};

/// computeResizeAreaTab: parts of less than a thousandth do not count.
std::vector<Share> shares_of(std::int64_t in, std::int64_t out) {
  constexpr double kLeast = 1e-3;
  const double scale = scale_of(in, out);
  std::vector<Share> shares;

  for (std::int64_t i = 0; i < out; ++i) {
    const double begin = static_cast<double>(i) * scale;
    const double end = begin + scale;
    const double covered = std::min(scale, static_cast<double>(in) - begin);
    const auto last = std::min(static_cast<std::int64_t>(std::floor(end)), in - 1);
    const auto first = std::min(static_cast<std::int64_t>(std::ceil(begin)), last);

    const double before = static_cast<double>(first) - begin;
    if (before > kLeast) shares.push_back({first - 1, i, static_cast<float>(before / covered)});
    for (std::int64_t j = first; j < last; ++j)
      shares.push_back({j, i, static_cast<float>(1.0 / covered)});
    const double behind = end - static_cast<double>(last);
    if (behind > kLeast) {
      const double part = std::min(std::min(behind, 1.0), covered);
      shares.push_back({last, i, static_cast<float>(part / covered)});
    }
  }
  return shares;
}

Image mean_of_areas(const Image& image, std::int64_t height, std::int64_t width) {
  const std::int64_t channels = image.channels;
  const std::vector<Share> columns = shares_of(image.width, width);
  const std::vector<Share> rows = shares_of(image.height, height);
  const auto row_size = static_cast<std::size_t>(width * channels);
  std::vector<float> line(row_size);
  std::vector<float> sums(row_size);

  Image out(height, width, channels);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const Share& row = rows[r];
    const std::uint8_t* from = image.row(row.from);
    std::fill(line.begin(), line.end(), 0.0F);
    for (const Share& column : columns)
      for (std::int64_t c = 0; c < channels; ++c)
        line[static_cast<std::size_t>(column.to * channels + c)] +=
            static_cast<float>(from[column.from * channels + c]) * column.weight;

    const bool is_first = r == 0 || rows[r - 1].to != row.to;
    for (std::size_t x = 0; x < row_size; ++x) {
      const float part = row.weight * line[x];
      sums[x] = is_first ? part : sums[x] + part;
    }
    const bool is_last = r + 1 == rows.size() || rows[r + 1].to != row.to;
    if (is_last) std::transform(sums.begin(), sums.end(), out.row(row.to), to_byte);
  }
  return out;
}

}  // namespace

Image opencv_bilinear(const Image& image, std::int64_t height, std::int64_t width) {
  const bool half =
      whole(scale_of(image.height, height)) == 2 && whole(scale_of(image.width, width)) == 2;
  if (half) return mean_of_blocks(image, 2, 2);
  return blend_neighbours(image, height, width, Weights::kBilinear);
}

Image opencv_area(const Image& image, std::int64_t height, std::int64_t width) {
  const double vertical = scale_of(image.height, height);
  const double horizontal = scale_of(image.width, width);
  if (vertical < 1 || horizontal < 1) return blend_neighbours(image, height, width, Weights::kArea);

  if (whole(vertical) > 0 && whole(horizontal) > 0)
    return mean_of_blocks(image, whole(vertical), whole(horizontal));
  return mean_of_areas(image, height, width);
}

}  // namespace quell
