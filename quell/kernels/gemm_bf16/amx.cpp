#include "quell/kernels/simd/amx_intrinsics.h"

#define QUELL_TILE_DP(c, a, b) _tile_dpbf16ps(c, a, b)

#include "quell/kernels/gemm_bf16/body.h"
#include "quell/kernels/gemm_bf16/body_amx.h"

namespace quell::kernels {
namespace {

void multiply_rounded(const std::uint16_t* x, std::int64_t m, const Bf16Weights& w,
                      const float* bias, float* y, std::int64_t ldy, std::int64_t panel_begin,
                      std::int64_t panel_end) {
  __asm__ volatile("" ::: "memory");
  amx_multiply(x, m, w, bias, y, ldy, panel_begin, panel_end);
  _tile_release();
}

}  // namespace

const Bf16Kernels kBf16Amx{multiply, multiply_rounded, unpack};

}  // namespace quell::kernels
