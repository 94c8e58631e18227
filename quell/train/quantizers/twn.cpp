// TWN: ternary weights by a threshold (Li and Liu, 2016; with the clip: TernaryBERT, EMNLP 2020).
#include "quell/train/quantizer_math.h"
#include "quell/train/step_groups.h"

namespace quell::train {
namespace {

class Twn : public FakeQuantizer {
 public:
  explicit Twn(const MethodParams& params) : groups_(params, {"tensor", "row", "group"}) {
    params.check_keys({"granularity", "group_size", "clip", "factor"});
    clip_ = read_clip(params, std::nullopt);
    factor_ = params.number("factor", 0, 10, 0.7);
  }

  torch::Tensor quantize(const torch::Tensor& x) override {
    const Ternary t = ternarize(x.detach());
    return straight_through(x, (t.codes * t.scale).reshape_as(x), inside_clip(x, clip_));
  }
  bool row_by_row() const override { return groups_.within_rows(); }

  DeployableForm deployable() const override {
    return {groups_.weight_spec(2, true), "ternary, " + groups_.text() + ": 1.58 bits a weight"};
  }
  WeightCodes codes(const torch::Tensor& weight) const override {
    const Ternary t = ternarize(weight.detach());
    return symmetric_codes(t.codes, t.scale);
  }

 private:
  struct Ternary {
    torch::Tensor codes, scale;
  };

  Ternary ternarize(const torch::Tensor& x) const {
    const torch::NoGradGuard guard;
    const torch::Tensor w = groups_.split(apply_clip(x, clip_));
    torch::Tensor magnitude = w.abs();
    const torch::Tensor threshold = factor_ * magnitude.mean(1, true);
    const torch::Tensor selected = magnitude > threshold;

    // A row of zeros selects nothing: its scale is 0, not 0 / 0.
    const torch::Tensor count = selected.sum(1, true).clamp_min(1);
    const torch::Tensor sum = magnitude.mul_(selected).sum(1, true);
    return {w.sign().mul_(selected), sum / count};
  }

  StepGroups groups_;
  std::optional<double> clip_;
  double factor_;
};

}  // namespace

extern const QuantizerFactory k_twn;
const QuantizerFactory k_twn = {"twn", true, false,
                                [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
                                  return std::make_unique<Twn>(params);
                                }};

}  // namespace quell::train
