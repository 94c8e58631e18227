// The kernels of this folder, for table.cpp and the test.
#pragma once

#include "quell/kernels/gemm_u8s8/gemm_u8s8.h"

namespace quell::kernels {

#define QUELL_GEMM_U8S8(name)                                                                                       \
  void name(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w, std::int32_t* acc, std::int64_t ldacc, \
            std::int64_t m, std::int64_t n_begin, std::int64_t n_end)

QUELL_GEMM_U8S8(gemm_u8s8_reference);
QUELL_GEMM_U8S8(gemm_u8s8_avx2_widen);
QUELL_GEMM_U8S8(gemm_u8s8_avx2_maddubs);
QUELL_GEMM_U8S8(gemm_u8s8_avx512_vnni);

}  // namespace quell::kernels
