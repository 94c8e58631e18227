// Absmean ternary weights (BitNet b1.58: Ma et al., 2024).
#include "quell/train/quantizer_math.h"
#include "quell/train/step_groups.h"

namespace quell::train {
namespace {

/// Least scale, as in the authors' notes on training.
constexpr double kLeastMean = 1e-5;

class Absmean : public FakeQuantizer {
 public:
  explicit Absmean(const MethodParams& params) : groups_(params, {"tensor", "row", "group"}) {
    params.check_keys({"granularity", "group_size"});
  }

  torch::Tensor quantize(const torch::Tensor& x) override {
    const WeightCodes c = codes(x);
    return straight_through(x, (c.codes * c.steps).reshape_as(x));
  }
  bool row_by_row() const override { return groups_.within_rows(); }

  DeployableForm deployable() const override {
    return {groups_.weight_spec(2, true), "ternary, " + groups_.text() + ": 1.58 bits a weight"};
  }
  WeightCodes codes(const torch::Tensor& weight) const override {
    const torch::NoGradGuard guard;
    const torch::Tensor w = groups_.split(weight.detach());
    const torch::Tensor scale = w.abs().mean(1, true).clamp_min(kLeastMean);
    return symmetric_codes(torch::round(w / scale).clamp(-1, 1), scale);
  }

 private:
  StepGroups groups_;
};

}  // namespace

extern const QuantizerFactory k_absmean;
const QuantizerFactory k_absmean = {
    "absmean", true, false, [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
      return std::make_unique<Absmean>(params);
    }};

}  // namespace quell::train
