// Several images of a source as one matrix.
#pragma once

#include "quell/base/thread_pool.h"
#include "quell/vision/image_source.h"
#include "quell/vision/preprocessing.h"

namespace quell {

/// Images that have one size when they are prepared.
struct PixelBatch {
  std::int64_t count = 0;
  ImageSize size;
  Tensor values;  ///< [count * height * width, channels] f32
};

/// Reads and prepares images `first` to `first + count - 1`, several at once; at least one. Depends
/// on the threads in nothing, errors included: it is always that of the first image that has one.
/// Throws as ImageSource::image and preprocess(), and Error(kInvalidInput) where sizes differ.
PixelBatch read_pixels(const ImageSource& source, std::int64_t first, std::int64_t count,
                       const Preprocessing& steps, ThreadPool& pool);

}  // namespace quell
