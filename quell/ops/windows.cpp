#include "quell/ops/windows.h"

namespace quell {
namespace {

std::int64_t count_along(std::int64_t size, std::int64_t before, std::int64_t after,
                         std::int64_t kernel, std::int64_t stride, std::int64_t dilation,
                         bool ceil) {
  const std::int64_t last_start = size + before + after - dilation * (kernel - 1) - 1;
  if (last_start < 0) return 0;

  std::int64_t count = (last_start + (ceil ? stride - 1 : 0)) / stride + 1;
  if (ceil && (count - 1) * stride >= size + before) --count;
  return count;
}

/// One direction of a window that slides over an image.
struct Slide {
  std::int64_t size;  ///< of the image
  std::int64_t before;
  std::int64_t kernel;
  std::int64_t stride;
  std::int64_t dilation;
};

/// What tap `t` of window `p` sees; -1: padding.
std::int64_t seen_by(const Slide& s, std::int64_t p, std::int64_t t) {
  const std::int64_t at = p * s.stride - s.before + t * s.dilation;
  return at >= 0 && at < s.size ? at : -1;
}

/// The same of a transposed convolution; -1 also where a stride leaves a hole.
std::int64_t seen_transposed(const Slide& s, std::int64_t p, std::int64_t t) {
  const std::int64_t at = p + s.before - t * s.dilation;
  const bool hits = at >= 0 && at % s.stride == 0 && at / s.stride < s.size;
  return hits ? at / s.stride : -1;
}

using Rule = std::int64_t (*)(const Slide& slide, std::int64_t p, std::int64_t t);

std::vector<std::int64_t> taps_along(const Slide& slide, std::int64_t out, Rule rule) {
  std::vector<std::int64_t> seen;
  for (std::int64_t p = 0; p < out; ++p)
    for (std::int64_t t = 0; t < slide.kernel; ++t) seen.push_back(rule(slide, p, t));
  return seen;
}

TapTable taps_by(Rule rule, ImageSize image, const Window& w, ImageSize out) {
  const Slide down{image.height, w.padding.top, w.kernel_height, w.stride_height,
                   w.dilation_height};
  const Slide across{image.width, w.padding.left, w.kernel_width, w.stride_width, w.dilation_width};
  return {image,
          out,
          w.kernel_height,
          w.kernel_width,
          taps_along(down, out.height, rule),
          taps_along(across, out.width, rule)};
}

}  // namespace

ImageSize windows_over(ImageSize image, const Window& w, bool ceil) {
  return {count_along(image.height, w.padding.top, w.padding.bottom, w.kernel_height,
                      w.stride_height, w.dilation_height, ceil),
          count_along(image.width, w.padding.left, w.padding.right, w.kernel_width, w.stride_width,
                      w.dilation_width, ceil)};
}

ImageSize image_under(ImageSize windows, const Window& w, ImageSize more) {
  const ImagePadding& p = w.padding;
  return {(windows.height - 1) * w.stride_height + w.dilation_height * (w.kernel_height - 1) + 1 -
              p.top - p.bottom + more.height,
          (windows.width - 1) * w.stride_width + w.dilation_width * (w.kernel_width - 1) + 1 -
              p.left - p.right + more.width};
}

bool TapTable::reads_in_place() const {
  if (kernel_height * kernel_width != 1 || !(image == out)) return false;
  const auto is_in_order = [](const std::vector<std::int64_t>& seen) {
    for (std::size_t i = 0; i < seen.size(); ++i)
      if (seen[i] != static_cast<std::int64_t>(i)) return false;
    return true;
  };
  return is_in_order(rows) && is_in_order(columns);
}

TapTable make_taps(ImageSize image, const Window& w, ImageSize out) {
  return taps_by(seen_by, image, w, out);
}

TapTable make_transposed_taps(ImageSize image, const Window& w, ImageSize out) {
  return taps_by(seen_transposed, image, w, out);
}

}  // namespace quell
