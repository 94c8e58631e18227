// AdaRound (Nagel et al., ICML 2020): every weight is rounded up or down as it suits the outputs of
// its row.
//   min over h in [0, 1] of (w^q - w) X^T X (w^q - w)^T + lambda sum(1 - |2 h - 1|^beta),   w^q = s
//   (clamp(floor(w / s) + h + z) - z)
// by gradient, h a stretched sigmoid, beta falling from 20 to 2. Inputs: what the site's linears
// read, behind quantized predecessors and after migration. Output: one ReplaceWeight a linear.
#include "quell/compress/adaround.h"
#include "quell/compress/pass.h"

namespace quell {
namespace {

class AdaRound final : public Pass {
 public:
  AdaRound(const AdaRoundOptions& options, WeightRange range, const Recipe& recipe)
      : options_(options), range_(range), recipe_(recipe) {}
  PassStage stage() const override { return PassStage::kWeights; }

  PassEffort effort(const Site& site) const override {
    // X^T X once, and every iteration a product of a weight's size with it, and as much again for
    // the choices themselves.
    constexpr double kTokens = 2048;
    const Tensor& w = site.model->param_of(site.linears.front()).weight;
    const auto rows = static_cast<double>(w.rows()), columns = static_cast<double>(w.cols());
    return {.float_products =
                columns / rows + 2 * static_cast<double>(options_.iterations) * columns / kTokens};
  }
  Plan plan(const Site& site, const SiteActivations& activations, ExecContext& ctx) const override {
    const auto round = [&](const TensorView& w, QTensor q, const Tensor& gram, ExecContext& with) {
      return adaround(w, std::move(q), gram, options_, with);
    };
    return plan_by_outputs(site, recipe_, range_, activations, round, ctx);
  }

 private:
  AdaRoundOptions options_;
  WeightRange range_;
  Recipe recipe_;
};

}  // namespace

extern const PassFactory k_adaround;
const PassFactory k_adaround = {
    "adaround", [](const PassParams& params, const Recipe& recipe) -> std::unique_ptr<Pass> {
      params.check_keys({"iterations", "learning_rate", "regularization", "range"});
      AdaRoundOptions o;
      o.iterations = params.integer("iterations", 1, 1000000, o.iterations);
      o.learning_rate = params.number("learning_rate", 1e-6, 1, o.learning_rate);
      o.regularization = params.number("regularization", 0, 100, o.regularization);
      return std::make_unique<AdaRound>(o, weight_range_of(params, recipe), recipe);
    }};

}  // namespace quell
