#include <immintrin.h>

// g++ 12 does not see that tile loads read memory: a barrier in front of them.
#define QUELL_TILE_CONFIG(config)    \
  __asm__ volatile("" ::: "memory"); \
  _tile_loadconfig(config)
#define QUELL_TILE_ZERO(t) _tile_zero(t)
#define QUELL_TILE_LOAD(t, p, stride) _tile_loadd(t, p, stride)
#define QUELL_TILE_STORE(t, p, stride) \
  _tile_stored(t, p, stride);          \
  __asm__ volatile("" ::: "memory")
#define QUELL_TILE_DPBUSD(c, a, b) _tile_dpbusd(c, a, b)

#include "quell/kernels/gemm_s8/body_amx.h"
#include "quell/kernels/gemm_s8/kernels.h"

namespace quell::kernels {

QUELL_GEMM_S8(gemm_s8_amx) {
  __asm__ volatile("" ::: "memory");
  amx_gemm(QUELL_GEMM_S8_ARGS);
  _tile_release();
}

}  // namespace quell::kernels
