// Single-precision matrix products by oneDNN, called single-threaded: the caller splits the work.
#pragma once

#include <cstdint>
#include <string>

namespace quell::kernels {

/// c[M,N] (+)= alpha * a[M,K] * b, row-major with leading dimensions; `b` is [N,K] when
/// `b_transposed`, else [K,N].
void sgemm(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
           std::int64_t lda, const float* b, std::int64_t ldb, bool b_transposed, float* c,
           std::int64_t ldc, bool accumulate = false);

/// What decides the last bits of products: oneDNN's version, and the instructions that it has
/// chosen for this processor.
std::string sgemm_library();

}  // namespace quell::kernels
