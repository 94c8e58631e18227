// Asymmetric codes of the range, with the identity as gradient: TSLD's 4-bit weights (NeurIPS
// 2023).
#include <cmath>

#include "quell/train/quantizer_math.h"
#include "quell/train/step_groups.h"

namespace quell::train {
namespace {

class MinMax : public FakeQuantizer {
 public:
  explicit MinMax(const MethodParams& params) : groups_(params, {"row", "tensor", "group"}) {
    params.check_keys({"granularity", "group_size", "bits"});
    bits_ = static_cast<int>(params.integer("bits", 2, 8, 4));
  }

  torch::Tensor quantize(const torch::Tensor& x) override {
    const Codes c = rounded(x.detach());
    return straight_through(x, ((c.codes - c.range.zero) * c.range.step).reshape_as(x));
  }
  bool row_by_row() const override { return groups_.within_rows(); }

  DeployableForm deployable() const override {
    return {groups_.weight_spec(bits_, false),
            std::to_string(bits_) + " bits with a zero point, " + groups_.text()};
  }
  WeightCodes codes(const torch::Tensor& weight) const override {
    const Codes c = rounded(weight.detach());
    return {c.codes.to(torch::kInt16), c.range.step, c.range.zero.to(torch::kInt16)};
  }

 private:
  struct Codes {
    torch::Tensor codes;
    RangeSteps range;
  };
  Codes rounded(const torch::Tensor& x) const {
    const torch::NoGradGuard guard;
    const torch::Tensor w = groups_.split(x);
    const RangeSteps range = range_steps(w, bits_);
    const double levels = std::exp2(bits_) - 1;
    return {(torch::round(w / range.step) + range.zero).clamp(0, levels), range};
  }

  StepGroups groups_;
  int bits_;
};

}  // namespace

extern const QuantizerFactory k_min_max;
const QuantizerFactory k_min_max = {
    "min_max", true, false, [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
      return std::make_unique<MinMax>(params);
    }};

}  // namespace quell::train
