// LAT: ternary weights by the loss (Hou and Kwok, ICLR 2018; weights of TernaryBERT-LAT): each
// weight counts as much as the optimizer's second moment says.
#include "quell/train/loss_aware.h"
#include "quell/train/quantizer_math.h"
#include "quell/train/step_groups.h"

namespace quell::train {
namespace {

class Lat : public FakeQuantizer {
 public:
  explicit Lat(const MethodParams& params) : groups_(params, {"tensor", "row", "group"}) {
    params.check_keys({"granularity", "group_size", "solution", "alternations"});
    exact_ = params.choice("solution", {"alternating", "exact"}, "alternating") == "exact";
    alternations_ = static_cast<int>(params.integer("alternations", 0, 1000, 10));
  }

  void begin_step(const TrainingStep& step) override { metric_ = loss_metric(step); }
  torch::Tensor quantize(const torch::Tensor& x) override {
    const ScaledCodes s = solve(x.detach());
    return straight_through(x, (s.codes * s.scale).reshape_as(x));
  }

  DeployableForm deployable() const override {
    return {groups_.weight_spec(2, true), "ternary, " + groups_.text() + ": 1.58 bits a weight"};
  }
  WeightCodes codes(const torch::Tensor& weight) const override {
    const ScaledCodes s = solve(weight.detach());
    return symmetric_codes(s.codes, s.scale);
  }

 private:
  ScaledCodes solve(const torch::Tensor& w) const {
    const torch::Tensor d = metric_.defined() ? groups_.split(metric_.to(w.dtype())) : metric_;
    const torch::Tensor split = groups_.split(w);
    return exact_ ? best_ternary(split, d) : alternate(split, d, 2, alternations_);
  }

  StepGroups groups_;
  bool exact_;
  int alternations_;
  torch::Tensor metric_;
};

}  // namespace

extern const QuantizerFactory k_lat;
const QuantizerFactory k_lat = {"lat", true, false,
                                [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
                                  return std::make_unique<Lat>(params);
                                }};

}  // namespace quell::train
