// Bias correction (Nagel et al., Data-Free Quantization Through Weight Equalization and Bias
// Correction, ICCV 2019, section 4.2, with measured instead of derived expectations): what
// quantization adds to the mean of a linear's outputs is taken out of its bias.
//   b_j <- b_j + mean over tokens of (y_j - y^q_j), linear after linear, each behind predecessors
//   that are already corrected
// Inputs: the quantized model and the calibration batches. Output: one AddToBias a linear that has
// a bias.
#include "quell/base/error.h"
#include "quell/compress/output_means.h"
#include "quell/compress/pass.h"

namespace quell {
namespace {

class BiasCorrection final : public Pass {
 public:
  bool changes_float_function() const override { return true; }
  bool corrects_means() const override { return true; }
  PassEffort effort(const Site&) const override { return {.forwards = 2}; }
  PassStage stage() const override { return PassStage::kRanges; }

  Plan plan_ranges(const Model& model, const std::vector<TokenBatch>& samples, ExecContext& ctx,
                   const Notes&) const override {
    const OpTable exact = make_float_ops(model);
    OpTable quantized = make_float_ops(model);
    const int count = model.graph.num_nodes();
    for (int n = 0; n < count; ++n)
      if (corrected(model, n))
        quantized[static_cast<std::size_t>(n)] = make_simulated_op(model, n, false, ctx.isa);
    Executors wanted, got;
    for (const TokenBatch& batch : samples) {
      wanted.push_back(std::make_unique<Executor>(model, exact, false, batch, ctx));
      got.push_back(std::make_unique<Executor>(model, quantized, true, batch, ctx));
    }
    Plan plan;
    int done = 0;
    for (const NodeId n : model.graph.order()) {
      ++done;
      for (std::size_t b = 0; b < samples.size(); ++b) {
        wanted[b]->run(n);
        got[b]->run(n);
        wanted[b]->spill();
        got[b]->spill();
      }
      if (!corrected(model, n)) continue;
      const ValueId out = model.graph.node(n).out;
      Tensor delta = mean_difference(wanted, got, out);
      add_to_rows(got, out, delta);
      plan.push_back(AddToBias{n, std::move(delta)});
      ctx.progress("correct biases", done, count);
    }
    ctx.progress("correct biases", count, count);
    return plan;
  }

 private:
  static bool corrected(const Model& model, NodeId n) {
    return takes_bias_correction(model, n) && model.param_of(n).quantized;
  }
};

}  // namespace

extern const PassFactory k_bias_correction;
const PassFactory k_bias_correction = {
    "bias_correction", [](const PassParams& params, const Recipe& recipe) -> std::unique_ptr<Pass> {
      params.check_keys({});
      for (const PassParams& other : recipe.passes)
        require(other.name() != "token_wise_clipping", ErrorCode::kInvalidInput, "recipe ",
                recipe.name,
                ": bias_correction with token_wise_clipping: the few tokens that clipping leaves "
                "out would decide the means; keep one of the two");
      return std::make_unique<BiasCorrection>();
    }};

}  // namespace quell
