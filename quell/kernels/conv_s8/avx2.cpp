#include "quell/kernels/conv_s8/body_dense.h"
#include "quell/kernels/conv_s8/body_depthwise.h"
#include "quell/kernels/conv_s8/kernels.h"
#include "quell/kernels/conv_s8/products.h"
#include "quell/kernels/conv_s8/vectors_x86.h"

namespace quell::kernels {
namespace {

/// Sixteen registers: four pixels by two vectors.
struct Avx2Blocks {
  static constexpr int kWidest = 32, kMaxVectors = 2;
  static constexpr int rows(int) { return 4; }
};

template <int kBytes>
struct Avx2Widen : WidenedProducts<Register<kBytes>>, Avx2Blocks {};
template <int kBytes>
struct Avx2Maddubs : BytePairProducts<Register<kBytes>>, Avx2Blocks {};

}  // namespace

QUELL_DEFINE_CONV_S8(avx2_widen, Avx2Widen)
QUELL_DEFINE_CONV_S8(avx2_maddubs, Avx2Maddubs)

}  // namespace quell::kernels
