#include "quell/kernels/rows/body.h"

namespace quell::kernels {

const RowKernels kRowsAvx2 = kRows;

}  // namespace quell::kernels
