#include "quell/train/quant_noise.h"

#include <cmath>
#include <vector>

#include "quell/base/random.h"
#include "quell/train/quantizer_math.h"

namespace quell::train {

torch::Tensor with_noise(const torch::Tensor& w, const torch::Tensor& quantized,
                         const torch::Tensor& mask, double keep) {
  const torch::Tensor noised =
      straight_through(w, torch::where(mask != 0, quantized.detach(), w.detach()));
  return keep == 1 ? noised : noised / keep;
}

torch::Tensor entries_of_blocks(const torch::Tensor& mask, std::int64_t block_size) {
  return mask.repeat_interleave(block_size, 1);
}

torch::Tensor random_mask(torch::IntArrayRef shape, double p, std::uint64_t seed,
                          const torch::TensorOptions& options) {
  Random random(seed);
  torch::Tensor mask = torch::empty(shape, torch::kFloat32);
  float* const entries = mask.data_ptr<float>();
  for (std::int64_t i = 0; i < mask.numel(); ++i) entries[i] = random.uniform() < p ? 1.0F : 0.0F;
  return mask.to(options);
}

IntegerCodes integer_codes(const torch::Tensor& groups, int bits) {
  const torch::NoGradGuard guard;
  const double levels = std::exp2(bits) - 1;
  const torch::Tensor low = groups.amin(1, true).clamp_max(0);
  const torch::Tensor step = (groups.amax(1, true).clamp_min(0) - low) / levels;
  const torch::Tensor zero = -torch::round(divide_or_zero(low, step));
  const torch::Tensor codes = torch::round(divide_or_zero(groups, step) + zero).clamp(0, levels);
  return {codes, step, zero};
}

}  // namespace quell::train
