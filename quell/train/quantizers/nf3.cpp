// NF3 with a scale for each sign (BitDistiller, ACL 2024): levels that are quantiles of a normal
// distribution.
#include <array>

#include "quell/train/quantizer_math.h"
#include "quell/train/step_groups.h"

namespace quell::train {
namespace {

constexpr std::array<double, 8> kLevels = {-1,
                                           -0.5350227355957031,
                                           -0.2469314038753510,
                                           0,
                                           0.1833375245332718,
                                           0.3819939494132996,
                                           0.6229856610298157,
                                           1};

/// Midway between the levels; a value on a threshold takes the upper level.
torch::Tensor nearest_level(const torch::Tensor& x) {
  torch::Tensor level = torch::full_like(x, kLevels[0]);
  for (std::size_t i = 1; i < kLevels.size(); ++i)
    level = level.masked_fill(x >= (kLevels[i - 1] + kLevels[i]) / 2, kLevels[i]);
  return level;
}

class Nf3 : public FakeQuantizer {
 public:
  explicit Nf3(const MethodParams& params) : groups_(params, {"group", "row", "tensor"}) {
    params.check_keys({"granularity", "group_size"});
  }

  /// The scales carry a gradient; a normalised weight passes its own on.
  torch::Tensor quantize(const torch::Tensor& x) override {
    const torch::Tensor w = groups_.split(x);
    const torch::Tensor positive = w.detach() >= 0;
    const torch::Tensor scale =
        torch::where(positive, w.amax(1, true).abs(), w.amin(1, true).abs());
    const torch::Tensor normal = divide_or_zero(w, scale);
    const torch::Tensor level = straight_through(normal, nearest_level(normal.detach()));
    return (level * scale).reshape_as(x);
  }

  DeployableForm deployable() const override {
    return {std::nullopt, "none: its levels are not evenly spaced"};
  }

 private:
  StepGroups groups_;
};

}  // namespace

extern const QuantizerFactory k_nf3;
const QuantizerFactory k_nf3 = {"nf3", true, false,
                                [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
                                  return std::make_unique<Nf3>(params);
                                }};

}  // namespace quell::train
