#include "quell/kernels/gemm_s8/avx2_ops.h"
#include "quell/kernels/gemm_s8/body_vnni.h"
#include "quell/kernels/gemm_s8/kernels.h"

namespace quell::kernels {
namespace {

struct AvxVnni : Vector256 {
  static constexpr int kWidth = 8, kRows = 6;
  static I32 dot(I32 sum, I8 x, I8 w) { return _mm256_dpbusd_avx_epi32(sum, x, w); }
};

}  // namespace

QUELL_GEMM_S8(gemm_s8_avx_vnni) { vnni_gemm<AvxVnni, 8>(QUELL_GEMM_S8_ARGS); }
QUELL_GEMM_S8(gemm_s8_avx_vnni_nibbles) { vnni_gemm<AvxVnni, 4>(QUELL_GEMM_S8_ARGS); }
QUELL_GEMM_S8(gemm_s8_avx_vnni_crumbs) { vnni_crumbs_gemm<AvxVnni>(QUELL_GEMM_S8_ARGS); }

}  // namespace quell::kernels
