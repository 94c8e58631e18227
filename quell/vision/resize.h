// Resizing of images of bytes, to the last bit as the libraries do with which models were trained
// and measured.
#pragma once

#include <string_view>

#include "quell/vision/image.h"

namespace quell {

/// Whose arithmetic. Pillow and torchvision antialias (the filter grows with the scale), and differ
/// in how they round weights; OpenCV does not, but with kArea.
enum class ResizeLibrary { kPillow, kTorchvision, kOpenCv };

enum class ResizeFilter { kNearest, kBox, kBilinear, kHamming, kBicubic, kLanczos, kArea };

struct ResizeMethod {
  ResizeLibrary library = ResizeLibrary::kPillow;
  ResizeFilter filter = ResizeFilter::kBilinear;
  bool operator==(const ResizeMethod&) const = default;
};

std::string_view library_name(ResizeLibrary library);
std::string_view filter_name(ResizeFilter filter);

/// Whether the library resizes so, here: Pillow with all filters but kArea; torchvision with
/// kNearest ("nearest-exact"), kBilinear, kBicubic and kLanczos, on tensors of bytes with
/// antialiasing; OpenCV with kBilinear (INTER_LINEAR) and kArea (INTER_AREA).
bool can_resize(ResizeMethod method);

/// `height` and `width` at least 1; the method must be one of can_resize. An image that has the
/// size already comes back as it is.
Image resize(const Image& image, std::int64_t height, std::int64_t width, ResizeMethod method);

}  // namespace quell
