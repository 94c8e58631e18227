#include <array>

#include "quell/kernels/gemm_u8s8/kernels.h"

namespace quell::kernels {
namespace {

constexpr int kAnyProduct = 255 * 128;
constexpr int kNoSaturation = 32767 / 2;  // two products of vpmaddubsw must fit in 16 bits

constexpr std::array kTable = {
    GemmU8S8Kernel{"reference", Isa::kPortable, kAnyProduct, gemm_u8s8_reference},
#if defined(QUELL_X86_64)
    GemmU8S8Kernel{"avx2_widen", Isa::kAvx2, kAnyProduct, gemm_u8s8_avx2_widen},
    GemmU8S8Kernel{"avx2_maddubs", Isa::kAvx2, kNoSaturation, gemm_u8s8_avx2_maddubs},
    GemmU8S8Kernel{"avx512_vnni", Isa::kAvx512Vnni, kAnyProduct, gemm_u8s8_avx512_vnni},
#endif
};

}  // namespace

std::span<const GemmU8S8Kernel> gemm_u8s8_kernels() { return kTable; }

const GemmU8S8Kernel& choose_gemm_u8s8(Isa isa, int max_x, int max_abs_w) {
  const GemmU8S8Kernel* best = kTable.data();
  for (const GemmU8S8Kernel& kernel : kTable)
    if (kernel.isa <= isa && max_x * max_abs_w <= kernel.max_product) best = &kernel;
  return *best;
}

}  // namespace quell::kernels
