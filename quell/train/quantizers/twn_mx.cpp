// What KD-QAT (EMNLP 2022) uses for weights of 4 and more bits: clipped at the mean of the large
// magnitudes. Its clipped ends lie between two codes, so that 4 bits have 17 levels.
#include <cmath>

#include "quell/train/quantizer_math.h"
#include "quell/train/step_groups.h"

namespace quell::train {
namespace {

class TwnMx : public FakeQuantizer {
 public:
  explicit TwnMx(const MethodParams& params) : groups_(params, {"tensor", "row", "group"}) {
    params.check_keys({"granularity", "group_size", "clip", "bits"});
    clip_ = read_clip(params, std::nullopt);
    bits_ = static_cast<int>(params.integer("bits", 2, 8, 4));
  }

  torch::Tensor quantize(const torch::Tensor& x) override {
    return straight_through(x, rounded(x.detach()), inside_clip(x, clip_));
  }
  bool row_by_row() const override { return groups_.within_rows(); }

  DeployableForm deployable() const override {
    const int levels = (1 << bits_) + 1;
    return {std::nullopt, "none: " + std::to_string(levels) + " levels do not fit " +
                              std::to_string(bits_) + " bits"};
  }

 private:
  torch::Tensor rounded(const torch::Tensor& x) const {
    const torch::NoGradGuard guard;
    const torch::Tensor w = groups_.split(apply_clip(x, clip_));
    const torch::Tensor magnitude = w.abs();
    const torch::Tensor large = (magnitude > magnitude.mean(1, true)).to(w.dtype());
    const torch::Tensor count = large.sum(1, true).clamp_min(1);
    const torch::Tensor limit = (magnitude * large).sum(1, true) / count;

    const torch::Tensor step = 2 * limit / (std::exp2(bits_) - 1);
    const torch::Tensor clipped = torch::clamp(w, -limit, limit);
    return (torch::round(divide_or_zero(clipped, step)) * step).reshape_as(x);
  }

  StepGroups groups_;
  std::optional<double> clip_;
  int bits_;
};

}  // namespace

extern const QuantizerFactory k_twn_mx;
const QuantizerFactory k_twn_mx = {
    "twn_mx", true, false, [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
      return std::make_unique<TwnMx>(params);
    }};

}  // namespace quell::train
