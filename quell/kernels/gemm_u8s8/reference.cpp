#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "quell/kernels/gemm_u8s8/kernels.h"

namespace quell::kernels {

PackedWeights pack_weights(const std::int8_t* w, std::int64_t n, std::int64_t k) {
  PackedWeights p;
  p.n = n;
  p.k = k;
  const std::int64_t panels = (n + kPackN - 1) / kPackN;
  p.data.assign(static_cast<std::size_t>(panels * p.panel_bytes()), 0);
  for (std::int64_t row = 0; row < n; ++row)
    for (std::int64_t col = 0; col < k; ++col) {
      const std::int64_t at =
          row / kPackN * p.panel_bytes() + (col / kPackK) * kPackN * kPackK + (row % kPackN) * kPackK + col % kPackK;
      const std::int8_t code = w[row * k + col];
      p.data[static_cast<std::size_t>(at)] = code;
      p.max_abs = std::max(p.max_abs, std::abs(static_cast<int>(code)));
    }
  return p;
}

void gemm_u8s8_reference(const std::uint8_t* x, std::int64_t ldx, const PackedWeights& w, std::int32_t* acc, std::int64_t ldacc,
                         std::int64_t m, std::int64_t n_begin, std::int64_t n_end) {
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = n_begin; j < n_end; ++j) {
      const std::int8_t* panel = w.data.data() + j / kPackN * w.panel_bytes() + (j % kPackN) * kPackK;
      std::int32_t sum = 0;
      for (std::int64_t k = 0; k < w.padded_k(); ++k)
        sum += static_cast<std::int32_t>(x[i * ldx + k]) * panel[k / kPackK * kPackN * kPackK + k % kPackK];
      acc[i * ldacc + j] = sum;
    }
}

}  // namespace quell::kernels
