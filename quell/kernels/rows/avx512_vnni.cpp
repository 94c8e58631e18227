#include "quell/kernels/rows/body.h"

namespace quell::kernels {

const RowKernels kRowsAvx512 = kRows;

}  // namespace quell::kernels
