#include "quell/train/quantizer_math.h"

#include <cmath>

#include "quell/base/error.h"

namespace quell::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

class StraightThrough : public torch::autograd::Function<StraightThrough> {
 public:
  static torch::Tensor forward(AutogradContext* /*ctx*/, const torch::Tensor& /*x*/,
                               const torch::Tensor& value) {
    return value.detach();
  }
  static tensor_list backward(AutogradContext* /*ctx*/, const tensor_list& gradients) {
    return {gradients[0], torch::Tensor()};
  }
};

class MaskedStraightThrough : public torch::autograd::Function<MaskedStraightThrough> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& /*x*/,
                               const torch::Tensor& value, const torch::Tensor& mask) {
    ctx->save_for_backward({mask});
    return value.detach();
  }
  static tensor_list backward(AutogradContext* ctx, const tensor_list& gradients) {
    return {gradients[0] * ctx->get_saved_variables()[0], torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor straight_through(const torch::Tensor& x, const torch::Tensor& value,
                               const torch::Tensor& mask) {
  return mask.defined() ? MaskedStraightThrough::apply(x, value, mask)
                        : StraightThrough::apply(x, value);
}

torch::Tensor divide_or_zero(const torch::Tensor& a, const torch::Tensor& b) {
  return a / b.masked_fill(b == 0, HUGE_VAL);
}

torch::Tensor divide_or_zero_(torch::Tensor a, const torch::Tensor& b) {
  return a.div_(b.masked_fill(b == 0, HUGE_VAL));
}

torch::Tensor round_half_away(const torch::Tensor& x) {
  // Not floor(|x| + 1/2): the sum is rounded, and the number just below 1/2 would go to 1.
  const torch::Tensor whole = x.trunc();
  return torch::where((x - whole).abs() == 0.5, whole + x.sign(), x.round());
}

double largest_code(int bits) { return std::exp2(bits - 1) - 1; }

std::optional<double> read_clip(const MethodParams& params, std::optional<double> fallback) {
  if (!params.has("clip")) return fallback;
  if (params.values().at("clip") == "none") return std::nullopt;
  return params.number("clip", 1e-6, 1e6, 0);
}

torch::Tensor inside_clip(const torch::Tensor& x, std::optional<double> clip) {
  if (!clip) return {};
  return torch::logical_and(x > -*clip, x < *clip);
}

torch::Tensor apply_clip(const torch::Tensor& x, std::optional<double> clip) {
  return clip ? x.clamp(-*clip, *clip) : x;
}

torch::Tensor learned(const torch::Tensor& value) {
  return value.detach().clone().requires_grad_(true);
}

void require_positive(const torch::Tensor& learned, const std::string& what) {
  require(learned.min().item<double>() > 0, ErrorCode::kNumeric, what, " became ",
          learned.min().item<double>(), "; it must stay above 0: lower its learning rate");
}

void require_initialized(const torch::Tensor& learned, const std::string& what) {
  require(learned.defined(), ErrorCode::kInvalidInput, what,
          " has no start value: initialize the quantizer with its weight or a first batch");
}

WeightCodes symmetric_codes(const torch::Tensor& codes, const torch::Tensor& steps) {
  const torch::Tensor whole = codes.detach().to(torch::kInt16);
  return {whole, steps.detach(), torch::zeros({whole.size(0), 1}, whole.options())};
}

torch::Tensor least_error_scale(
    const torch::Tensor& groups,
    const std::function<torch::Tensor(const torch::Tensor& scale)>& quantize) {
  constexpr int kPoints = 64;
  constexpr int kRefinements = 2;
  const torch::NoGradGuard guard;
  const torch::Tensor magnitude = groups.abs();
  torch::Tensor low = magnitude.mean(1, true) / 20;
  torch::Tensor ratio = divide_or_zero(magnitude.amax(1, true), low);
  torch::Tensor best = low.clone();

  for (int round = 0; round <= kRefinements; ++round) {
    torch::Tensor least = torch::full_like(low, HUGE_VAL);
    for (int i = 0; i <= kPoints; ++i) {
      const torch::Tensor scale = low * ratio.pow(static_cast<double>(i) / kPoints);
      const torch::Tensor error = (quantize(scale) - groups).square().sum(1, true);
      const torch::Tensor better = error < least;
      least = torch::where(better, error, least);
      best = torch::where(better, scale, best);
    }

    // Two grid steps around the best one.
    const torch::Tensor step = ratio.pow(1.0 / kPoints);
    low = divide_or_zero(best, step);
    ratio = step.square();
  }
  return best;
}

RangeSteps range_steps(const torch::Tensor& groups, int bits) {
  const double levels = std::exp2(bits) - 1;
  const torch::Tensor low = groups.amin(1, true);
  const torch::Tensor step = (groups.amax(1, true) - low).clamp_min(1e-5) / levels;
  const torch::Tensor zero = (-torch::round(low / step)).clamp(0, levels).detach();
  return {step, zero};
}

}  // namespace quell::train
