// What kernels of several folders fuse: activation functions and the writing of codes.
#pragma once

namespace quell::kernels {

enum class Activation { kNone, kRelu, kGelu, kGeluTanh, kSilu, kTanh };

/// f32 values to u8 codes: clamp(rne(x * inv_scale) + zero_point, min_code, max_code) + offset. `offset` turns signed codes into
/// u8.
struct CodeArgs {
  float inv_scale = 1.0F, zero_point = 0.0F, min_code = 0.0F, max_code = 255.0F, offset = 0.0F;
};

}  // namespace quell::kernels
