#include "quell/compress/pass.h"

#include "quell/base/error.h"
#include "quell/compress/output_means.h"
#include "quell/quant/quantize.h"

namespace quell {

std::unique_ptr<Pass> make_pass(const PassParams& params, const Recipe& recipe) {
  std::string known;
  for (const PassFactory* factory : all_of(static_cast<const PassFactory*>(nullptr))) {
    if (factory->name == params.name()) return factory->make(params, recipe);
    known += (known.empty() ? "" : ", ") + std::string(factory->name);
  }
  throw Error(ErrorCode::kInvalidInput,
              "pass \"" + params.name() + "\" is unknown; known are " + known);
}

std::vector<std::unique_ptr<Pass>> make_passes(const Recipe& recipe) {
  std::vector<std::unique_ptr<Pass>> passes;
  for (const PassParams& params : recipe.passes) passes.push_back(make_pass(params, recipe));
  return passes;
}

WeightRange weight_range_of(const PassParams& params, const Recipe& recipe) {
  const std::string name = params.choice("range", {"minmax", "mse", "lsq"}, "minmax");
  require(name != "lsq" || recipe.weights.symmetric, ErrorCode::kInvalidInput, "recipe ",
          recipe.name, ": ", params.name(),
          ": range: lsq is centred and needs symmetric weights; use minmax or mse");
  return name == "mse"   ? WeightRange::kMse
         : name == "lsq" ? WeightRange::kThreeSigma
                         : WeightRange::kMinMax;
}

QTensor round_to_nearest(const Site& site, NodeId product, const QuantSpec& spec, WeightRange range,
                         const SiteActivations& activations, ExecContext& ctx) {
  const Tensor& weight = site.model->param_of(product).weight;
  if (range == WeightRange::kMse)
    return quantize_weight(weight, spec, mean_squares(site, product, activations, ctx), ctx);
  return quantize_weight(weight, spec,
                         range == WeightRange::kThreeSigma ? three_sigma_range : minmax_range);
}

Plan plan_by_outputs(const Site& site, const Recipe& recipe, WeightRange range,
                     const SiteActivations& activations, const RoundRows& round, ExecContext& ctx) {
  SiteMoments moments(site, activations, ctx);
  Plan plan;
  for (const int linear : site.linears) {
    const Param& p = site.model->param_of(linear);
    if (is_ignored(recipe, p.module)) continue;
    QTensor nearest = round_to_nearest(site, linear, recipe.weights, range, activations, ctx);
    const bool bias_takes_means =
        activations.means_corrected && takes_bias_correction(*site.model, linear);
    const std::vector<InputMoments>& inputs =
        moments.of(linear, bias_takes_means ? MeanInputs::kTaken : MeanInputs::kKept);
    plan.push_back(ReplaceWeight{
        linear, round_by_group(p.weight, std::move(nearest), inputs, round, site.name, ctx)});
  }
  return plan;
}

}  // namespace quell
