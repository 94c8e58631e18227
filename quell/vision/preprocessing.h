// From an image to the numbers that a model reads, as a value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "quell/tensor/image_size.h"
#include "quell/tensor/tensor.h"
#include "quell/vision/image.h"
#include "quell/vision/resize.h"

namespace quell {

/// Sizes in settings go up to this.
inline constexpr std::int64_t kMaxImageSide = 8192;

struct ResizeStep {
  ResizeMethod method;
  ImageSize size;                  ///< both sides, where there is no shortest edge
  std::int64_t shortest_edge = 0;  ///< where > 0: of the shorter side; the other follows

  bool operator==(const ResizeStep&) const = default;
};

/// The middle of an image; what is smaller lies in zeros.
struct CropStep {
  ImageSize size;
  /// The side of a row of zeros too many: Pillow's processors in front, torchvision's behind.
  enum class OddRow { kInFront, kBehind } odd_row = OddRow::kBehind;

  bool operator==(const CropStep&) const = default;
};

enum class ChannelOrder { kRgb, kBgr, kGrey };

/// How factor, mean and deviation meet in f32.
enum class Arithmetic {
  kFused,    ///< (u - mean / factor) / (std / factor): torchvision's processors
  kSeparate  ///< (f32(u * factor) + offset - mean) / std: Pillow's, the product in f64
};

/// y = (u * factor + offset - mean) / std of a byte u, channel by channel.
struct Normalization {
  Arithmetic arithmetic = Arithmetic::kSeparate;
  double factor = 1;
  double offset = 0;
  std::vector<double> mean, std;  ///< empty (none), or one for each channel in the model's order
  /// EfficientNet's processor divides twice ("include_top").
  std::vector<double> second_std;

  bool operator==(const Normalization&) const = default;
};

/// What is done with an image, in the order of the members. A value: it can be compared, and is
/// read from files by preprocessor_config.h.
struct Preprocessing {
  ChannelOrder channels = ChannelOrder::kRgb;
  std::optional<ResizeStep> resize;
  std::optional<CropStep> crop;
  Normalization normalization;
  /// Where the result must have a size: images of another one are refused.
  std::optional<ImageSize> result;

  std::int64_t num_channels() const { return channels == ChannelOrder::kGrey ? 1 : 3; }
  bool operator==(const Preprocessing&) const = default;
};

/// Pixels of one image, [height * width, channels] f32.
struct PixelValues {
  ImageSize size;
  Tensor values;
};

/// Everything in front of the numbers: size and channels. A grey image counts as red, green and
/// blue alike. `name` names the image in messages. Throws Error(kInvalidInput) on a colour image
/// for a grey model, on another size than `result`, and on sides so unlike that the result is
/// larger than any image that is read.
Image arrange(const Image& image, const Preprocessing& steps, const std::string& name);

/// arrange() and the normalization. Depends on nothing but its arguments.
PixelValues preprocess(const Image& image, const Preprocessing& steps, const std::string& name);

}  // namespace quell
