#include "quell/kernels/gemm_bf16/body.h"

namespace quell::kernels {

const Bf16Kernels kBf16Avx2 = kKernels;

}  // namespace quell::kernels
