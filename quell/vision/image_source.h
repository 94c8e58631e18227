// Labelled images, one interface to every place they come from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "quell/vision/image.h"

namespace quell {

/// Images in a fixed order. Nothing is decoded before it is asked for, and nothing is kept: one
/// image is in memory for each call of `image`, which several threads may call at once.
class ImageSource {
 public:
  virtual ~ImageSource() = default;

  virtual std::int64_t size() const = 0;
  /// As messages call it: with the file it comes from.
  virtual std::string name(std::int64_t index) const = 0;
  /// Nothing where no labels were read.
  virtual std::optional<std::int32_t> label(std::int64_t index) const = 0;
  /// Throws as decode_image (decode_image.h).
  virtual Image image(std::int64_t index) const = 0;
};

enum class ImageLabels { kRead, kIgnore };

/// Where images lie, and their labels.
struct ImageChoice {
  std::filesystem::path images = {};
  /// Empty: where they belong. For a folder that is labels.tsv in it, for NAME.tar NAME_labels.tsv
  /// beside it, for an IDX file the one with "labels-idx1" instead of "images-idx3" in its name.
  /// CIFAR files hold their labels.
  std::filesystem::path labels = {};
  /// kIgnore (calibration): no label file is looked for, and the order is that of the images.
  ImageLabels use = ImageLabels::kRead;
  ImageLimits limits = {};
};

/// Opens a folder of PNG and JPEG files (and folders in it), a tar file, an IDX file or a CIFAR
/// binary, by what it holds. With a label file the order is that of the label file, else that of
/// the archive, or of the names in a folder. Throws Error(kIo | kInvalidInput | kUnsupported) with
/// the file where something cannot be read or labels do not match the images one to one.
std::unique_ptr<ImageSource> open_images(const ImageChoice& choice);

}  // namespace quell
