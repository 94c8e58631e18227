// Round to nearest with MinMax steps: the baseline, and the last step of every recipe that names no other weight pass.
//   code = clamp(rne(w / D) + z), D and z from the smallest and largest weight of a tensor, row or group.
#include "quell/compress/pass.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

class Rtn final : public Pass {
 public:
  explicit Rtn(const Recipe& recipe) : recipe_(recipe) {}
  PassStage stage() const override { return PassStage::kWeights; }

  Plan plan(const Site& site, const SiteActivations&, ExecContext&) const override {
    Plan plan;
    for (const int linear : site.linears)
      if (!is_ignored(recipe_, site.model->param_of(linear).module))
        plan.push_back(ReplaceWeight{linear, quantize_weight(site.model->param_of(linear).weight, recipe_.weights)});
    return plan;
  }

 private:
  Recipe recipe_;
};

}  // namespace

extern const PassFactory k_rtn;
const PassFactory k_rtn = {"rtn", [](const PassParams& params, const Recipe& recipe) -> std::unique_ptr<Pass> {
                             params.check_keys({});
                             return std::make_unique<Rtn>(recipe);
                           }};

}  // namespace quell
