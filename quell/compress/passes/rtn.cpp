// Round to nearest: the baseline, and the last step of every recipe that names no other weight
// pass.
//   code = clamp(rne(w / D) + z), D and z from the smallest and largest weight of a tensor, row or
//   group; or, with range: mse, from the part of that range with the smallest sum of E[x_k^2] (w_k
//   - w^q_k)^2.
#include "quell/compress/pass.h"

namespace quell {
namespace {

class Rtn final : public Pass {
 public:
  Rtn(WeightRange range, const Recipe& recipe) : range_(range), recipe_(recipe) {}
  PassStage stage() const override { return PassStage::kWeights; }

  Plan plan(const Site& site, const SiteActivations& activations, ExecContext& ctx) const override {
    Plan plan;
    for (const int linear : site.linears)
      if (const Param& p = site.model->param_of(linear); !is_ignored(recipe_, p.module))
        plan.push_back(ReplaceWeight{
            linear, round_to_nearest(site, linear, recipe_.weights, range_, activations, ctx)});
    return plan;
  }

 private:
  WeightRange range_;
  Recipe recipe_;
};

}  // namespace

extern const PassFactory k_rtn;
const PassFactory k_rtn = {
    "rtn", [](const PassParams& params, const Recipe& recipe) -> std::unique_ptr<Pass> {
      params.check_keys({"range"});
      return std::make_unique<Rtn>(weight_range_of(params, recipe), recipe);
    }};

}  // namespace quell
