// Asymmetric codes of groups whose range has a gradient too (BitDistiller, ACL 2024).
#include <cmath>

#include "quell/train/quantizer_math.h"
#include "quell/train/step_groups.h"

namespace quell::train {
namespace {

class IntAsym : public FakeQuantizer {
 public:
  explicit IntAsym(const MethodParams& params) : groups_(params, {"group", "row", "tensor"}) {
    params.check_keys({"granularity", "group_size", "bits", "rounding"});
    bits_ = static_cast<int>(params.integer("bits", 2, 8, 2));
    away_ = params.choice("rounding", {"half_away", "half_even"}, "half_away") == "half_away";
  }

  /// Composed of differentiable parts: inside the codes the gradient of a weight is 1, and the
  /// largest and smallest weight of a group carry what the step gets.
  torch::Tensor quantize(const torch::Tensor& x) override {
    const torch::Tensor w = groups_.split(x);
    const RangeSteps range = range_steps(w, bits_);
    const torch::Tensor quotient = w / range.step;
    const torch::Tensor whole = straight_through(quotient, rounded(quotient.detach()));
    const torch::Tensor codes = (whole + range.zero).clamp(0, largest());
    return ((codes - range.zero) * range.step).reshape_as(x);
  }
  bool row_by_row() const override { return groups_.within_rows(); }

  DeployableForm deployable() const override {
    return {groups_.weight_spec(bits_, false),
            std::to_string(bits_) + " bits with a zero point, " + groups_.text()};
  }
  WeightCodes codes(const torch::Tensor& weight) const override {
    const torch::NoGradGuard guard;
    const torch::Tensor w = groups_.split(weight);
    const RangeSteps range = range_steps(w, bits_);
    const torch::Tensor codes = (rounded(w / range.step) + range.zero).clamp(0, largest());
    return {codes.to(torch::kInt16), range.step, range.zero.to(torch::kInt16)};
  }

 private:
  double largest() const { return std::exp2(bits_) - 1; }
  torch::Tensor rounded(const torch::Tensor& x) const {
    return away_ ? round_half_away(x) : torch::round(x);
  }

  StepGroups groups_;
  int bits_;
  bool away_;
};

}  // namespace

extern const QuantizerFactory k_int_asym;
const QuantizerFactory k_int_asym = {
    "int_asym", true, false, [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
      return std::make_unique<IntAsym>(params);
    }};

}  // namespace quell::train
