#include "quell/quant/quant_spec.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"

namespace quell {

int QuantSpec::min_code() const {
  if (!symmetric) return 0;
  return codes == CodeRange::kRestricted ? -((1 << (num_bits - 1)) - 1) : -(1 << (num_bits - 1));
}

int QuantSpec::max_code() const {
  return symmetric ? (1 << (num_bits - 1)) - 1 : (1 << num_bits) - 1;
}

std::string granularity_name(Granularity g) {
  switch (g) {
    case Granularity::kPerTensor: return "tensor";
    case Granularity::kPerChannel: return "channel";
    case Granularity::kPerToken: return "token";
    case Granularity::kPerGroup: return "group";
  }
  return "?";
}

void validate(const QuantSpec& spec, std::int64_t columns, const std::string& what) {
  require(spec.num_bits >= 2 && spec.num_bits <= 8, ErrorCode::kInvalidInput, what, ": ",
          spec.num_bits, " bits; use 2 to 8");
  if (spec.granularity != Granularity::kPerGroup || columns == 0) return;
  require(spec.group_size > 0 && columns % spec.group_size == 0, ErrorCode::kInvalidInput, what,
          ": group size ", spec.group_size, " does not divide ", columns,
          " columns; choose a divisor");
}

StepAndZero calculate_qparams(Range range, const QuantSpec& spec, DType arithmetic) {
  const auto rounded = [arithmetic](float v) { return round_to(arithmetic, v); };
  const float low = std::min(range.min, 0.0F), high = std::max(range.max, 0.0F);
  const float floor = spec.step_rule == StepRule::kMaxCode ? 0x1.0p-23F : 1e-8F;
  const auto levels = static_cast<float>((1 << spec.num_bits) - 1);
  if (spec.symmetric) {
    const float divisor = spec.step_rule == StepRule::kMaxCode
                              ? static_cast<float>((1 << (spec.num_bits - 1)) - 1)
                              : levels / 2.0F;
    return {std::max(rounded(std::max(-low, high) / divisor), floor), 0};
  }
  const float step = std::max(rounded(rounded(high - low) / levels), floor);
  const float zero = std::clamp(0.0F - std::nearbyintf(rounded(low / step)), 0.0F, levels);
  return {step, static_cast<std::int32_t>(zero)};
}

bool divides_at_run_time(const QuantSpec& spec) {
  return spec.dynamic && spec.symmetric && spec.step_rule == StepRule::kHalfRange;
}

bool is_static_per_tensor(const ActivationQuant& quant) {
  return !quant.spec.dynamic && quant.spec.granularity == Granularity::kPerTensor && !quant.groups;
}

}  // namespace quell
