// Which of several distances is the largest, where a NaN is larger than all.
#pragma once

#include <cmath>

namespace quell::train {

/// Whether `apart` takes the place of the largest distance so far. Nothing takes a NaN's.
template <typename Float>
bool is_farther(Float apart, Float so_far) {
  return !std::isnan(so_far) && !(apart <= so_far);
}

}  // namespace quell::train
