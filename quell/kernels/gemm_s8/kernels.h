// The kernels of this folder, for table.cpp and the test.
#pragma once

#include "quell/kernels/gemm_s8/gemm_s8.h"

namespace quell::kernels {

#define QUELL_GEMM_S8(name)                                                                     \
  void name(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w, const Epilogue& e, \
            std::int64_t m_begin, std::int64_t m_end, std::int64_t panel_begin,                 \
            std::int64_t panel_end)
#define QUELL_GEMM_S8_ARGS x, ldx, w, e, m_begin, m_end, panel_begin, panel_end

QUELL_GEMM_S8(gemm_s8_reference);
QUELL_GEMM_S8(gemm_s8_reference_nibbles);
QUELL_GEMM_S8(gemm_s8_reference_crumbs);
QUELL_GEMM_S8(gemm_s8_avx2_widen);
QUELL_GEMM_S8(gemm_s8_avx2_maddubs);
QUELL_GEMM_S8(gemm_s8_avx2_maddubs2);
QUELL_GEMM_S8(gemm_s8_avx2_maddubs8);
QUELL_GEMM_S8(gemm_s8_avx2_maddubs16);
QUELL_GEMM_S8(gemm_s8_avx2_nibbles);
QUELL_GEMM_S8(gemm_s8_avx2_crumbs8);
QUELL_GEMM_S8(gemm_s8_avx2_crumbs16);
QUELL_GEMM_S8(gemm_s8_avx_vnni);
QUELL_GEMM_S8(gemm_s8_avx_vnni_nibbles);
QUELL_GEMM_S8(gemm_s8_avx_vnni_crumbs);
QUELL_GEMM_S8(gemm_s8_avx512_vnni);
QUELL_GEMM_S8(gemm_s8_avx512_vnni_nibbles);
QUELL_GEMM_S8(gemm_s8_avx512_vnni_crumbs);
QUELL_GEMM_S8(gemm_s8_amx);
QUELL_GEMM_S8(gemm_s8_amx_crumbs);

}  // namespace quell::kernels
