#include <array>

#include "quell/kernels/conv_s8/kernels.h"

namespace quell::kernels {
namespace {

constexpr int kAny = 255 * 128;
constexpr int kTwoFit16Bits = 32767 / 2;  ///< vpmaddubsw adds two products

#define QUELL_CONV_S8_ENTRIES(name) dense_##name, pointwise_##name, depthwise_##name

constexpr std::array kTable = {
    ConvS8Kernel{"reference", Isa::kPortable, kAny, 1, 16, QUELL_CONV_S8_ENTRIES(reference)},
#if defined(QUELL_X86_64)
    ConvS8Kernel{"avx2_widen", Isa::kAvx2, kAny, 4, 32, QUELL_CONV_S8_ENTRIES(avx2_widen)},
    ConvS8Kernel{"avx2_maddubs", Isa::kAvx2, kTwoFit16Bits, 4, 32,
                 QUELL_CONV_S8_ENTRIES(avx2_maddubs)},
    ConvS8Kernel{"avx_vnni", Isa::kAvxVnni, kAny, 4, 32, QUELL_CONV_S8_ENTRIES(avx_vnni)},
    ConvS8Kernel{"avx512_vnni", Isa::kAvx512Vnni, kAny, 24, 64, QUELL_CONV_S8_ENTRIES(avx512_vnni)},
#endif
};

}  // namespace

std::span<const ConvS8Kernel> conv_s8_kernels() { return kTable; }

const ConvS8Kernel& choose_conv_s8(Isa isa, int max_x, int max_abs_w) {
  const ConvS8Kernel* best = nullptr;
  for (const ConvS8Kernel& kernel : kTable)
    if (kernel.isa <= isa && max_x * max_abs_w <= kernel.max_product) best = &kernel;
  return *best;
}

}  // namespace quell::kernels
