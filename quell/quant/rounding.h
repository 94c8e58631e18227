// Round half to even without a library call, so that loops over it vectorize on every x86-64.
#pragma once

#include <cmath>

namespace quell {

/// Adding and subtracting 1.5 * 2^23 leaves no fraction bits; from 2^22 on the trick would not be
/// exact and nearly all values are whole.
inline float round_half_even(float x) {
  constexpr float kMagic = 12582912.0F;
  const float rounded = (x + kMagic) - kMagic;
  return std::fabs(x) < 4194304.0F ? rounded : std::nearbyintf(x);
}

}  // namespace quell
