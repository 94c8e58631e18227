#include "quell/kernels/sgemm/sgemm.h"

#include <dnnl.h>

#include "quell/base/error.h"

// Declared by hand so that no translation unit of ours needs OpenMP flags; oneDNN's own runtime
// provides it.
extern "C" void omp_set_num_threads(int);

namespace quell::kernels {

void sgemm(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
           std::int64_t lda, const float* b, std::int64_t ldb, bool b_transposed, float* c,
           std::int64_t ldc, bool accumulate) {
  if (m == 0 || n == 0) return;
  // Per-thread setting of the OpenMP runtime: oneDNN must not start threads inside ours.
  thread_local const bool single_threaded = (omp_set_num_threads(1), true);
  (void)single_threaded;
  const dnnl_status_t status = dnnl_sgemm('N', b_transposed ? 'T' : 'N', m, n, k, alpha, a, lda, b,
                                          ldb, accumulate ? 1.0F : 0.0F, c, ldc);
  require(status == dnnl_success, ErrorCode::kNumeric, "oneDNN refused a product of ", m, "x", n,
          "x", k, " (status ", static_cast<int>(status), ")");
}

std::string sgemm_library() {
  const dnnl_version_t* version = dnnl_version();
  return str("oneDNN ", version->major, ".", version->minor, ".", version->patch, " ",
             version->hash, " isa ", static_cast<int>(dnnl_get_effective_cpu_isa()));
}

}  // namespace quell::kernels
