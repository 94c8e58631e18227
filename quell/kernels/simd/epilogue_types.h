// What kernels of several folders fuse: activation functions and the writing of codes.
#pragma once

#include <cstdint>

namespace quell::kernels {

enum class Activation { kNone, kRelu, kRelu6, kGelu, kGeluTanh, kSilu, kTanh };

/// f32 values to u8 codes: clamp(rne(x * inv_scale) + zero, low, high). Signed codes are stored
/// shifted up, and zero and bounds with them.
struct CodeArgs {
  float inv_scale = 1.0F;
  std::int32_t zero = 0, low = 0, high = 255;
};

}  // namespace quell::kernels
