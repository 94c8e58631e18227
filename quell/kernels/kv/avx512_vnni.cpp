#include "quell/kernels/kv/body.h"

namespace quell::kernels {

const KvKernels kKvAvx512 = kKv;

}  // namespace quell::kernels
