#include "quell/kernels/simd/amx_intrinsics.h"

#define QUELL_TILE_DP(c, a, b) _tile_dpbusd(c, a, b)

#include "quell/kernels/gemm_s8/body_amx.h"
#include "quell/kernels/gemm_s8/kernels.h"

namespace quell::kernels {

QUELL_GEMM_S8(gemm_s8_amx) {
  __asm__ volatile("" ::: "memory");
  amx_gemm(QUELL_GEMM_S8_ARGS);
  _tile_release();
}

}  // namespace quell::kernels
