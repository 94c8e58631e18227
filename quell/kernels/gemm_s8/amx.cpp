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

/// A few rows wait for memory: unpacking in registers keeps up with that, tiles would not.
QUELL_GEMM_S8(gemm_s8_amx_crumbs) {
  constexpr std::int64_t kFewRows = 12;  // a block of the other kernel
  if (m_end - m_begin <= kFewRows) return gemm_s8_avx512_vnni_crumbs(QUELL_GEMM_S8_ARGS);

  __asm__ volatile("" ::: "memory");
  amx_gemm<UnpackedPanels>(QUELL_GEMM_S8_ARGS);
  _tile_release();
}

}  // namespace quell::kernels
