// The VNNI kernel text over `V`: 16 int32 lanes and a 4-way u8*s8 dot product. Instantiated with intrinsics in
// avx512_vnni.cpp and with plain C++ (emulated.h) in the test.
#pragma once

#include <cstring>

#include "quell/kernels/gemm_u8s8/gemm_u8s8.h"

namespace quell::kernels {
namespace {

template <typename V, int kRows>
void vnni_panel(const std::uint8_t* x, std::int64_t ldx, const std::int8_t* panel, std::int64_t steps, std::int32_t* acc,
                std::int64_t ldacc, std::int64_t columns) {
  typename V::I32 sum[kRows];
  for (int r = 0; r < kRows; ++r) sum[r] = V::zero();
  for (std::int64_t s = 0; s < steps; ++s) {
    const typename V::I8 w = V::load(panel + s * kPackN * kPackK);
    for (int r = 0; r < kRows; ++r) {
      std::int32_t quad;
      std::memcpy(&quad, x + r * ldx + s * kPackK, sizeof(quad));
      sum[r] = V::dot(sum[r], V::broadcast(quad), w);
    }
  }
  for (int r = 0; r < kRows; ++r) V::store(acc + r * ldacc, sum[r], columns);
}

template <typename V>
void vnni_gemm(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w, std::int32_t* acc, std::int64_t ldacc,
               std::int64_t m, std::int64_t n_begin, std::int64_t n_end) {
  const std::int64_t steps = w.padded_k() / kPackK;
  for (std::int64_t j = n_begin; j < n_end; j += kPackN) {
    const std::int8_t* panel = w.data.data() + j / kPackN * w.panel_bytes();
    const std::int64_t columns = n_end - j < kPackN ? n_end - j : kPackN;
    std::int64_t i = 0;
    for (; i + 8 <= m; i += 8) vnni_panel<V, 8>(x + i * ldx, ldx, panel, steps, acc + i * ldacc + j, ldacc, columns);
    for (; i + 4 <= m; i += 4) vnni_panel<V, 4>(x + i * ldx, ldx, panel, steps, acc + i * ldacc + j, ldacc, columns);
    for (; i < m; ++i) vnni_panel<V, 1>(x + i * ldx, ldx, panel, steps, acc + i * ldacc + j, ldacc, columns);
  }
}

}  // namespace
}  // namespace quell::kernels
