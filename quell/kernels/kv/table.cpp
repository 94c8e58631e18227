#include "quell/kernels/kv/kv.h"

namespace quell::kernels {

const KvKernels& kv_kernels(Isa isa) {
#if defined(QUELL_X86_64)
  if (isa >= Isa::kAvx512Vnni) return kKvAvx512;
  if (isa >= Isa::kAvx2) return kKvAvx2;
#endif
  (void)isa;
  return kKvReference;
}

}  // namespace quell::kernels
