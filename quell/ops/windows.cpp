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

std::vector<std::int64_t> taps_along(std::int64_t size, std::int64_t before, std::int64_t kernel,
                                     std::int64_t stride, std::int64_t dilation, std::int64_t out) {
  std::vector<std::int64_t> seen;
  for (std::int64_t p = 0; p < out; ++p)
    for (std::int64_t t = 0; t < kernel; ++t) {
      const std::int64_t at = p * stride - before + t * dilation;
      seen.push_back(at >= 0 && at < size ? at : -1);
    }
  return seen;
}

std::vector<std::int64_t> transposed_taps_along(std::int64_t size, std::int64_t before,
                                                std::int64_t kernel, std::int64_t stride,
                                                std::int64_t dilation, std::int64_t out) {
  std::vector<std::int64_t> seen;
  for (std::int64_t p = 0; p < out; ++p)
    for (std::int64_t t = 0; t < kernel; ++t) {
      const std::int64_t at = p + before - t * dilation;
      const bool hits = at >= 0 && at % stride == 0 && at / stride < size;
      seen.push_back(hits ? at / stride : -1);
    }
  return seen;
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

TapTable make_taps(ImageSize image, const Window& w, ImageSize out) {
  TapTable taps{image, out, w.kernel_height, w.kernel_width, {}, {}};
  taps.rows = taps_along(image.height, w.padding.top, w.kernel_height, w.stride_height,
                         w.dilation_height, out.height);
  taps.columns = taps_along(image.width, w.padding.left, w.kernel_width, w.stride_width,
                            w.dilation_width, out.width);
  return taps;
}

TapTable make_transposed_taps(ImageSize image, const Window& w, ImageSize out) {
  TapTable taps{image, out, w.kernel_height, w.kernel_width, {}, {}};
  taps.rows = transposed_taps_along(image.height, w.padding.top, w.kernel_height, w.stride_height,
                                    w.dilation_height, out.height);
  taps.columns = transposed_taps_along(image.width, w.padding.left, w.kernel_width, w.stride_width,
                                       w.dilation_width, out.width);
  return taps;
}

}  // namespace quell
