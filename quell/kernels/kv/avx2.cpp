#include "quell/kernels/kv/body.h"

namespace quell::kernels {

const KvKernels kKvAvx2 = kKv;

}  // namespace quell::kernels
