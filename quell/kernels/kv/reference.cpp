#include "quell/kernels/kv/body.h"

namespace quell::kernels {

const KvKernels kKvReference = kKv;

}  // namespace quell::kernels
