#include "quell/base/bf16.h"
#include "quell/kernels/gemm_bf16/gemm_bf16.h"

namespace quell::kernels {

Bf16Weights pack_bf16(const float* w, std::int64_t n, std::int64_t k) {
  Bf16Weights packed{n, k, {}};
  const std::int64_t depth = packed.padded_k();
  packed.data = AlignedBuffer(static_cast<std::size_t>(packed.panels() * kBf16Panel * depth) *
                              sizeof(std::uint16_t));
  auto* out = reinterpret_cast<std::uint16_t*>(packed.data.data());
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t i = 0; i < k; ++i)
      out[j / kBf16Panel * kBf16Panel * depth + (i / 2 * kBf16Panel + j % kBf16Panel) * 2 + i % 2] =
          f32_to_bf16(w[j * k + i]);
  return packed;
}

const Bf16Kernels& bf16_kernels(Isa isa) {
#if defined(QUELL_X86_64)
  if (isa >= Isa::kAmx) return kBf16Amx;
  if (isa >= Isa::kAvx512Vnni) return kBf16Avx512;
  if (isa >= Isa::kAvx2) return kBf16Avx2;
#endif
  (void)isa;
  return kBf16Reference;
}

}  // namespace quell::kernels
