// AdaRound (Nagel et al., ICML 2020): every weight is rounded up or down as it suits the outputs of
// its row.
//   min over h in [0, 1] of |X (w^q - w)^T|^2 + lambda sum(1 - |2 h - 1|^beta),   w^q = s
//   (clamp(floor(w / s) + h + z) - z)
// by gradient, h a stretched sigmoid, beta falling from 20 to 2. With `target: float` (the paper's
// asymmetric reconstruction, section 3.4) it is |X w^q^T - X_float w^T|^2: a layer makes up for
// what those before it have lost; and where bias_correction follows, biases take over the means.
// Inputs: what the site's products read, behind quantized predecessors and after migration.
// Output: one ReplaceWeight a product.
#include "quell/compress/adaround.h"
#include "quell/compress/pass.h"
#include "quell/ops/linear.h"

namespace quell {
namespace {

class AdaRound final : public Pass {
 public:
  AdaRound(const AdaRoundOptions& options, WeightRange range, bool to_float, const Recipe& recipe)
      : options_(options), range_(range), to_float_(to_float), recipe_(recipe) {}
  PassStage stage() const override { return PassStage::kWeights; }
  bool reads_float_inputs() const override { return to_float_; }

  PassEffort effort(const Site& site) const override {
    // X^T X once, and every iteration a product of a weight's size with it, and as much again for
    // the choices themselves.
    constexpr double kTokens = 2048;
    const Tensor& w = site.model->param_of(site.linears.front()).weight;
    const auto rows = static_cast<double>(w.rows()), columns = static_cast<double>(w.cols());
    const double moments = (to_float_ ? 2 : 1) * columns / rows;
    return {.float_products =
                moments + 2 * static_cast<double>(options_.iterations) * columns / kTokens};
  }
  Plan plan(const Site& site, const SiteActivations& activations, ExecContext& ctx) const override {
    const auto round = [&](const TensorView& w, QTensor q, const InputMoments& inputs,
                           ExecContext& with) {
      Tensor pull;
      if (inputs.missing.defined()) {
        pull = Tensor::uninitialized(DType::kF32, w.shape());
        matmul_nt(w, transposed(inputs.missing), TensorView(), pull.span(), with);
      }
      return adaround(w, std::move(q), inputs.gram, pull, options_, with);
    };
    return plan_by_outputs(site, recipe_, range_, activations, round, ctx);
  }

 private:
  AdaRoundOptions options_;
  WeightRange range_;
  bool to_float_;
  Recipe recipe_;
};

}  // namespace

extern const PassFactory k_adaround;
const PassFactory k_adaround = {
    "adaround", [](const PassParams& params, const Recipe& recipe) -> std::unique_ptr<Pass> {
      params.check_keys({"iterations", "learning_rate", "regularization", "range", "target"});
      AdaRoundOptions o;
      o.iterations = params.integer("iterations", 1, 1000000, o.iterations);
      o.learning_rate = params.number("learning_rate", 1e-6, 1, o.learning_rate);
      o.regularization = params.number("regularization", 0, 100, o.regularization);
      const bool to_float = params.choice("target", {"own", "float"}, "own") == "float";
      return std::make_unique<AdaRound>(o, weight_range_of(params, recipe), to_float, recipe);
    }};

}  // namespace quell
