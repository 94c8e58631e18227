#include "quell/kernels/rows/rows.h"

namespace quell::kernels {

const RowKernels& row_kernels(Isa isa) {
#if defined(QUELL_X86_64)
  if (isa >= Isa::kAvx512Vnni) return kRowsAvx512;
  if (isa >= Isa::kAvx2) return kRowsAvx2;
#endif
  (void)isa;
  return kRowsReference;
}

}  // namespace quell::kernels
