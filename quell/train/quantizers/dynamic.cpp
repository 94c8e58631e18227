// Activations whose range is that of the values themselves, fresh in every forward pass
// (TernaryBERT, KD-QAT; per token: QuantGPT, BitNet b1.58).
#include <cmath>

#include "quell/train/quantizer_math.h"
#include "quell/train/step_groups.h"

namespace quell::train {
namespace {

/// Keeps the range of a constant from being empty; the references add it both ways.
constexpr double kRangeFloor = 1e-8;
/// The smallest step of the engines (quell/quant/quant_spec.h).
constexpr double kEngineStep = 0x1.0p-23;

class Dynamic : public FakeQuantizer {
 public:
  explicit Dynamic(const MethodParams& params) : groups_(params, {"token", "tensor", "head"}) {
    params.check_keys({"granularity", "bits", "symmetric", "clip", "zero_point"});
    bits_ = static_cast<int>(params.integer("bits", 2, 8, 8));
    symmetric_ = params.flag("symmetric", true);
    clip_ = read_clip(params, std::nullopt);
    whole_zero_ = params.choice("zero_point", {"whole", "exact"}, "whole") == "whole";
  }

  torch::Tensor quantize(const torch::Tensor& x) override {
    return straight_through(x, rounded(x.detach()).reshape_as(x), inside_clip(x, clip_));
  }

  DeployableForm deployable() const override {
    if (groups_.name() != "token")
      return {std::nullopt,
              "none: a step of a whole " + groups_.name() +
                  " depends on what else is in the batch; use granularity token, or static steps"};
    if (clip_) return {std::nullopt, "none: the clip is in no file; use clip none"};
    if (!symmetric_ && !whole_zero_)
      return {std::nullopt,
              "none: the smallest value is not a whole number of steps; use zero_point whole"};
    QuantSpec spec;
    spec.num_bits = bits_;
    spec.symmetric = symmetric_;
    spec.granularity = Granularity::kPerToken;
    spec.dynamic = true;
    return {spec, "int" + std::to_string(bits_) + (symmetric_ ? "" : ", asymmetric") +
                      ", a dynamic step a token"};
  }

 private:
  torch::Tensor rounded(const torch::Tensor& x) const {
    const torch::NoGradGuard guard;
    const torch::Tensor w = groups_.split(apply_clip(x, clip_));
    if (symmetric_) {
      const torch::Tensor largest = w.abs().amax(1, true);
      const torch::Tensor scale =
          divide_or_zero(torch::full_like(largest, largest_code(bits_)), largest);
      return divide_or_zero_((w * scale).round_(), scale);
    }

    const double levels = std::exp2(bits_) - 1;
    if (whole_zero_) {
      const torch::Tensor low = w.amin(1, true).clamp_max(0);
      const torch::Tensor step =
          ((w.amax(1, true).clamp_min(0) - low) / levels).clamp_min(kEngineStep);
      const torch::Tensor zero = -torch::round(low / step);
      torch::Tensor codes = w / step;
      return codes.round_().add_(zero).clamp_(0, levels).sub_(zero).mul_(step);
    }
    const torch::Tensor low = w.amin(1, true);
    const torch::Tensor range = w.amax(1, true) - low + kRangeFloor;
    return torch::round((w - low) / range * levels) / levels * range + low;
  }

  StepGroups groups_;
  int bits_;
  bool symmetric_;
  bool whole_zero_;  ///< of asymmetric codes: 0 is a code, as in the engines
  std::optional<double> clip_;
};

}  // namespace

extern const QuantizerFactory k_dynamic;
const QuantizerFactory k_dynamic = {
    "dynamic", false, true, [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
      return std::make_unique<Dynamic>(params);
    }};

}  // namespace quell::train
