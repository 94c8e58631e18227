// cv::resize of OpenCV 4 on images of bytes.
#pragma once

#include "quell/vision/image.h"

namespace quell {

/// INTER_LINEAR: four neighbours, weights in 2^-11. At half the size in both directions the rounded
/// mean of 2 x 2 pixels.
Image opencv_bilinear(const Image& image, std::int64_t height, std::int64_t width);

/// INTER_AREA: the mean over the area that a pixel covers. Where a side grows, bilinear with
/// weights that blend only where a pixel lies over two.
Image opencv_area(const Image& image, std::int64_t height, std::int64_t width);

}  // namespace quell
