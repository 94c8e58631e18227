#include "quell/vision/resize.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/vision/resize_opencv.h"
#include "quell/vision/resize_taps.h"

namespace quell {
namespace {

using Filter = ResizeFilter;
using Library = ResizeLibrary;

/// For each position of the output the nearest of the input. Where a position lies between two,
/// rounding decides: Pillow adds the scale up in f64, torch multiplies in f32 and subtracts 0.5
/// without rounding in between (FMA), only to add it again.
std::vector<std::int64_t> nearest_positions(std::int64_t in, std::int64_t out, Library library) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const auto scale_f32 = static_cast<double>(static_cast<float>(in) / static_cast<float>(out));

  std::vector<std::int64_t> positions;
  double sum = 0.5 * scale;
  for (std::int64_t i = 0; i < out; ++i) {
    const auto left = static_cast<float>(scale_f32 * (static_cast<double>(i) + 0.5) - 0.5);
    const float middle = std::max(left, 0.0F) + 0.5F;
    const double position = library == Library::kPillow ? sum : static_cast<double>(middle);
    positions.push_back(std::min(static_cast<std::int64_t>(position), in - 1));
    sum += scale;
  }
  return positions;
}

Image resize_nearest(const Image& image, std::int64_t height, std::int64_t width, Library library) {
  const std::vector<std::int64_t> ys = nearest_positions(image.height, height, library);
  const std::vector<std::int64_t> xs = nearest_positions(image.width, width, library);

  Image out(height, width, image.channels);
  for (std::int64_t y = 0; y < height; ++y) {
    const std::uint8_t* row = image.row(ys[static_cast<std::size_t>(y)]);
    std::uint8_t* to = out.row(y);
    for (const std::int64_t x : xs) {
      const std::uint8_t* pixel = row + x * image.channels;
      to = std::copy(pixel, pixel + image.channels, to);
    }
  }
  return out;
}

/// What is done first is rounded to bytes before the other: results depend on the order. Pillow 13
/// begins with the rows where that saves enough; before, and in torch, the columns come first.
bool rows_first(const Image& image, std::int64_t height, std::int64_t width, Library library) {
  const std::int64_t fewer_rows = image.height - height;
  const std::int64_t fewer_columns = image.width - width;
  return library == Library::kPillow && fewer_rows > 0 && fewer_rows > 2 * fewer_columns;
}

Image resize_by_taps(const Image& image, std::int64_t height, std::int64_t width,
                     ResizeMethod method) {
  const auto fixed = [&](std::int64_t in, std::int64_t out) {
    const FilterTaps taps = filter_taps(in, out, method.filter);
    return method.library == Library::kPillow ? pillow_taps(taps) : torch_taps(taps);
  };
  const auto with_width = [&](const Image& from) {
    return width == from.width ? from : filter_columns(from, fixed(from.width, width));
  };
  const auto with_height = [&](const Image& from) {
    return height == from.height ? from : filter_rows(from, fixed(from.height, height));
  };

  if (rows_first(image, height, width, method.library)) return with_width(with_height(image));
  return with_height(with_width(image));
}

}  // namespace

std::string_view library_name(ResizeLibrary library) {
  switch (library) {
    case Library::kPillow: return "Pillow";
    case Library::kTorchvision: return "torchvision";
    case Library::kOpenCv: return "OpenCV";
  }
  return "";
}

std::string_view filter_name(ResizeFilter filter) {
  switch (filter) {
    case Filter::kNearest: return "nearest";
    case Filter::kBox: return "box";
    case Filter::kBilinear: return "bilinear";
    case Filter::kHamming: return "hamming";
    case Filter::kBicubic: return "bicubic";
    case Filter::kLanczos: return "lanczos";
    case Filter::kArea: return "area";
  }
  return "";
}

bool can_resize(ResizeMethod method) {
  const Filter filter = method.filter;
  switch (method.library) {
    case Library::kPillow: return filter != Filter::kArea;
    case Library::kTorchvision:
      return filter == Filter::kNearest || filter == Filter::kBilinear ||
             filter == Filter::kBicubic || filter == Filter::kLanczos;
    case Library::kOpenCv: return filter == Filter::kBilinear || filter == Filter::kArea;
  }
  return false;
}

Image resize(const Image& image, std::int64_t height, std::int64_t width, ResizeMethod method) {
  assert(height > 0 && width > 0 && can_resize(method));
  if (height == image.height && width == image.width) return image;

  if (method.library == Library::kOpenCv)
    return method.filter == Filter::kArea ? opencv_area(image, height, width)
                                          : opencv_bilinear(image, height, width);
  if (method.filter == Filter::kNearest)
    return resize_nearest(image, height, width, method.library);
  return resize_by_taps(image, height, width, method);
}

}  // namespace quell
