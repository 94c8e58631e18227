// NF3 with a scale for each sign (BitDistiller, ACL 2024): levels that are quantiles of a normal
// distribution.
#include <array>
#include <vector>

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

/// Thresholds are midway between the levels; a value on a threshold takes the upper level.
torch::Tensor nearest_level(const torch::Tensor& x) {
  const torch::Tensor levels =
      torch::tensor(std::vector<double>(kLevels.begin(), kLevels.end()), torch::kFloat64);
  const torch::Tensor thresholds = (levels.slice(0, 0, -1) + levels.slice(0, 1)) / 2;
  const torch::Tensor index =
      torch::bucketize(x, thresholds.to(x.dtype()), /*out_int32=*/true, /*right=*/true);
  return levels.to(x.dtype()).index_select(0, index.flatten()).reshape_as(x);
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
  bool row_by_row() const override { return groups_.within_rows(); }

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
