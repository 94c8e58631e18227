#include <algorithm>
#include <cmath>

#include "quell/kernels/quantize_u8/quantize_u8.h"

namespace quell::kernels {

std::int32_t quantize_u8_reference(const float* x, std::int64_t n, const QuantizeU8Args& args, std::uint8_t* out) {
  std::int32_t sum = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float code = std::nearbyintf(x[i] * args.inv_scale) + args.zero_point;  // zero is added after rounding
    const float stored = std::min(std::max(code, args.min_code), args.max_code) + args.offset;
    out[i] = static_cast<std::uint8_t>(stored);
    sum += out[i];
  }
  return sum;
}

QuantizeU8 choose_quantize_u8(Isa isa) {
#if defined(QUELL_X86_64)
  if (isa >= Isa::kAvx2) return quantize_u8_avx2;
#endif
  (void)isa;
  return quantize_u8_reference;
}

}  // namespace quell::kernels
