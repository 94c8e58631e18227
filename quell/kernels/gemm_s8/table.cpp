#include <algorithm>
#include <array>

#include "quell/kernels/gemm_s8/kernels.h"

namespace quell::kernels {
namespace {

constexpr int kAny = 255 * 128;
/// Two products a lane and `flush` such sums must fit in 16 bits.
constexpr int fits_16_bits(int flush) { return 32767 / (2 * flush); }

using enum WeightLayout;
constexpr std::array kTable = {
    GemmS8Kernel{"reference", Isa::kPortable, kQuads, kAny, 4, 4, gemm_s8_reference},
    GemmS8Kernel{"reference_nibbles", Isa::kPortable, kNibbles, kAny, 8, 4,
                 gemm_s8_reference_nibbles},
    GemmS8Kernel{"reference_crumbs", Isa::kPortable, kCrumbs, kAny, 16, 4,
                 gemm_s8_reference_crumbs},
#if defined(QUELL_X86_64)
    GemmS8Kernel{"avx2_widen", Isa::kAvx2, kPairs, kAny, 4, 12, gemm_s8_avx2_widen},
    GemmS8Kernel{"avx2_maddubs", Isa::kAvx2, kQuads, fits_16_bits(1), 4, 12, gemm_s8_avx2_maddubs},
    GemmS8Kernel{"avx2_maddubs2", Isa::kAvx2, kQuads, fits_16_bits(2), 8, 12,
                 gemm_s8_avx2_maddubs2},
    GemmS8Kernel{"avx2_maddubs8", Isa::kAvx2, kQuads, fits_16_bits(8), 32, 12,
                 gemm_s8_avx2_maddubs8},
    GemmS8Kernel{"avx2_maddubs16", Isa::kAvx2, kQuads, fits_16_bits(16), 64, 12,
                 gemm_s8_avx2_maddubs16},
    GemmS8Kernel{"avx2_nibbles", Isa::kAvx2, kNibbles, fits_16_bits(8), 32, 12,
                 gemm_s8_avx2_nibbles},
    GemmS8Kernel{"avx2_crumbs8", Isa::kAvx2, kCrumbs, fits_16_bits(8), 32, 12,
                 gemm_s8_avx2_crumbs8},
    GemmS8Kernel{"avx2_crumbs16", Isa::kAvx2, kCrumbs, fits_16_bits(16), 64, 12,
                 gemm_s8_avx2_crumbs16},
    GemmS8Kernel{"avx_vnni", Isa::kAvxVnni, kQuads, kAny, 4, 12, gemm_s8_avx_vnni},
    GemmS8Kernel{"avx_vnni_nibbles", Isa::kAvxVnni, kNibbles, kAny, 8, 12,
                 gemm_s8_avx_vnni_nibbles},
    GemmS8Kernel{"avx_vnni_crumbs", Isa::kAvxVnni, kCrumbs, kAny, 16, 12, gemm_s8_avx_vnni_crumbs},
    GemmS8Kernel{"avx512_vnni", Isa::kAvx512Vnni, kQuads, kAny, 4, 12, gemm_s8_avx512_vnni},
    GemmS8Kernel{"avx512_vnni_nibbles", Isa::kAvx512Vnni, kNibbles, kAny, 8, 12,
                 gemm_s8_avx512_vnni_nibbles},
    GemmS8Kernel{"avx512_vnni_crumbs", Isa::kAvx512Vnni, kCrumbs, kAny, 16, 12,
                 gemm_s8_avx512_vnni_crumbs},
    GemmS8Kernel{"amx", Isa::kAmx, kQuads, kAny, 64, 32, gemm_s8_amx},
    GemmS8Kernel{"amx_crumbs", Isa::kAmx, kCrumbs, kAny, 64, 32, gemm_s8_amx_crumbs},
#endif
};

/// Of those whose weights take so many bits; null where none takes the groups.
const GemmS8Kernel* fastest(Isa isa, int max_product, int weight_bits, std::int64_t group_size) {
  const GemmS8Kernel* best = nullptr;
  for (const GemmS8Kernel& kernel : kTable)
    if (kernel.isa <= isa && bits_of(kernel.layout) == weight_bits &&
        max_product <= kernel.max_product && group_size % kernel.group_unit == 0)
      best = &kernel;
  return best;
}

}  // namespace

std::span<const GemmS8Kernel> gemm_s8_kernels() { return kTable; }

const GemmS8Kernel& choose_gemm_s8(Isa isa, int max_x, int max_abs_w, int weight_bits,
                                   std::int64_t group_size) {
  const int max_product = max_x * max_abs_w;
  for (int bits = weight_bits; bits < 8; bits *= 2) {
    // Without VNNI small codes have kernels that are faster than unpacking nibbles.
    const bool faster_whole = bits == 4 && isa == Isa::kAvx2 && max_product <= fits_16_bits(16);
    const GemmS8Kernel* packed = fastest(isa, max_product, bits, group_size);
    const bool has_instructions = packed && (packed->isa > Isa::kPortable || isa == Isa::kPortable);
    if (has_instructions && !faster_whole) return *packed;
  }
  return *fastest(isa, max_product, 8, group_size);
}

std::string_view layout_name(WeightLayout layout) {
  switch (layout) {
    case kQuads: return "quads";
    case kPairs: return "pairs";
    case kNibbles: return "nibbles";
    case kCrumbs: return "crumbs";
  }
  return "?";
}

}  // namespace quell::kernels
