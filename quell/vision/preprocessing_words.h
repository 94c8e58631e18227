// What is done with an image in front of a network, for people.
#pragma once

#include <string>

#include "quell/vision/preprocessing.h"

namespace quell {

/// "RGB, resized to 256 x 512 (OpenCV, area), times 0.00392157, less mean 0.485 0.456 0.406,
/// divided by 0.229 0.224 0.225".
std::string describe_preprocessing(const Preprocessing& steps);

}  // namespace quell
