#include "quell/kernels/gemm_bf16/body.h"

namespace quell::kernels {

const Bf16Kernels kBf16Reference = kKernels;

}  // namespace quell::kernels
