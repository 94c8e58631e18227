// SmoothQuant (Xiao et al. 2023): s_j = max|X_j|^alpha / max|W_j|^(1-alpha) at every norm that
// feeds linears; scale only. Inputs: channel extrema over all batches. Output: one ShiftScale a
// site. For models with post-norms the residual branch is restored, as for OS+.
#include <algorithm>
#include <cmath>

#include "quell/compress/channel_stats.h"
#include "quell/compress/pass.h"

namespace quell {
namespace {

class SmoothQuant final : public Pass {
 public:
  explicit SmoothQuant(double alpha) : alpha_(alpha) {}
  PassStage stage() const override { return PassStage::kEquivalence; }

  bool may_change(const Site& site) const override {
    return site.migratable() && (site.takes_shift || site.through_step) &&
           site.in_block;  // in front of a product is no norm
  }
  Plan plan(const Site& site, const SiteActivations& activations, ExecContext&) const override {
    if (!may_change(site)) return {};
    const ChannelStats stats = channel_stats(activations, false, site.name);
    Tensor scale = Tensor::f32({static_cast<std::int64_t>(stats.max.size())});
    std::vector<float> weights(stats.max.size(), static_cast<float>(kFloor));
    for (const int linear : site.linears) {
      const Tensor& weight = site.model->param_of(linear).weight;
      for (std::int64_t r = 0; r < weight.rows(); ++r)
        for (std::size_t j = 0; j < weights.size(); ++j)
          weights[j] = std::max(weights[j], std::fabs(weight.row(r)[j]));
    }
    tie_largest(site.shared(), weights);
    for (std::size_t j = 0; j < stats.max.size(); ++j) {
      const double x = std::max(static_cast<double>(std::max(stats.max[j], -stats.min[j])), kFloor);
      const auto w = static_cast<double>(weights[j]);
      scale.f32()[j] =
          static_cast<float>(std::max(std::pow(x, alpha_) / std::pow(w, 1 - alpha_), kFloor));
    }
    Plan plan;
    plan.push_back(site.change(std::move(scale), Tensor()));
    return plan;
  }

 private:
  static constexpr double kFloor = 1e-5;
  double alpha_;
};

}  // namespace

extern const PassFactory k_smoothquant;
const PassFactory k_smoothquant = {
    "smoothquant", [](const PassParams& params, const Recipe&) -> std::unique_ptr<Pass> {
      params.check_keys({"alpha"});
      return std::make_unique<SmoothQuant>(params.number("alpha", 0, 1, 0.5));
    }};

}  // namespace quell
