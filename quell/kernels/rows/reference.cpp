#include "quell/kernels/rows/body.h"

namespace quell::kernels {

const RowKernels kRowsReference = kRows;

}  // namespace quell::kernels
