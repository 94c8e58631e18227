// LAQ: scale and codes by turns (Hou and Kwok, ICLR 2018), as BinaryBERT (ACL 2021) has it.
#include "quell/train/loss_aware.h"
#include "quell/train/quantizer_math.h"
#include "quell/train/step_groups.h"

namespace quell::train {
namespace {

class Laq : public FakeQuantizer {
 public:
  explicit Laq(const MethodParams& params) : groups_(params, {"tensor", "row", "group"}) {
    params.check_keys({"granularity", "group_size", "bits", "alternations", "metric"});
    bits_ = static_cast<int>(params.integer("bits", 2, 8, 2));
    alternations_ = static_cast<int>(params.integer("alternations", 0, 1000, 10));
    by_loss_ = params.choice("metric", {"none", "second_moment"}, "none") == "second_moment";
  }

  void begin_step(const TrainingStep& step) override {
    if (by_loss_) metric_ = loss_metric(step);
  }
  torch::Tensor quantize(const torch::Tensor& x) override {
    const ScaledCodes s = solve(x.detach());
    return straight_through(x, (s.scale * s.codes).reshape_as(x));
  }
  bool row_by_row() const override { return groups_.within_rows() && !by_loss_; }

  DeployableForm deployable() const override {
    const std::string size = bits_ == 2 ? "ternary" : std::to_string(bits_) + " bits";
    return {groups_.weight_spec(bits_, true), size + ", " + groups_.text()};
  }
  WeightCodes codes(const torch::Tensor& weight) const override {
    const ScaledCodes s = solve(weight.detach());
    const double n = largest_code(bits_);
    return symmetric_codes(torch::round(s.codes * n), s.scale / n);
  }

 private:
  ScaledCodes solve(const torch::Tensor& w) const {
    const torch::Tensor d = metric_.defined() ? groups_.split(metric_.to(w.dtype())) : metric_;
    return alternate(groups_.split(w), d, bits_, alternations_);
  }

  StepGroups groups_;
  int bits_;
  int alternations_;
  bool by_loss_;
  torch::Tensor metric_;
};

}  // namespace

extern const QuantizerFactory k_laq;
const QuantizerFactory k_laq = {"laq", true, false,
                                [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
                                  return std::make_unique<Laq>(params);
                                }};

}  // namespace quell::train
