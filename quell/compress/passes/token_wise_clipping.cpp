// Token-Wise Clipping (Wei et al., NeurIPS 2022; the coarse stage also behind Outlier Suppression+
// for BERT and BLOOM): see token_clipping.h. Inputs: the quantized model and the calibration
// batches. Output: ranges of all static quantizers.
#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/compress/pass.h"
#include "quell/compress/token_clipping.h"

namespace quell {
namespace {

constexpr double kUsualLearningRate = 1e-5;

class TokenWiseClipping final : public Pass {
 public:
  explicit TokenWiseClipping(const TokenClippingOptions& options) : options_(options) {}
  PassEffort effort(const Site&) const override {
    return {.forwards =
                4 + 3 * static_cast<double>(
                            options_.epochs)};  // most candidates are out before their last batch
  }
  PassStage stage() const override { return PassStage::kRanges; }

  Plan plan_ranges(const Model& model, const std::vector<TokenBatch>& samples, ExecContext& ctx,
                   const Notes& notes) const override {
    const TokenClippingResult result = search_token_clipping(model, samples, options_, ctx, notes);
    const auto best = static_cast<std::size_t>(result.best);
    log(LogLevel::kInfo,
        str("clipping: percentile ", result.percentiles[best],
            result.losses.empty()
                ? std::string()
                : str(", loss ", result.losses[best], " (unclipped ", result.losses.front(), ")")));
    if (!result.step_losses.empty())
      log(LogLevel::kInfo,
          str("fine stage: ", result.step_losses.size(), " steps, loss ", result.coarse_loss,
              " -> ", result.fine_loss,
              result.fine_loss < result.coarse_loss ? ""
                                                    : ": not taken; try a smaller learning_rate"));
    return final_plan(model, result);
  }

 private:
  TokenClippingOptions options_;
};

std::unique_ptr<Pass> make(const PassParams& params, const Recipe& recipe) {
  params.check_keys(
      {"step", "candidates", "percentile", "loss", "weights", "epochs", "learning_rate"});
  require(!recipe.activations.dynamic, ErrorCode::kInvalidInput, "recipe ", recipe.name,
          ": token_wise_clipping needs static activations");  // now, not after hours
  TokenClippingOptions o;
  o.step = params.number("step", 0, 0.5, 0);
  o.candidates = params.integer("candidates", 0, 1000, 0);
  o.percentile = params.number("percentile", 0, 1, 0);
  const std::string loss = params.choice("loss", {"auto", "outputs", "cross_entropy"}, "auto");
  o.loss = loss == "auto"      ? ClippingLoss::kAuto
           : loss == "outputs" ? ClippingLoss::kOutputs
                               : ClippingLoss::kCrossEntropy;
  o.float_weights = params.choice("weights", {"quantized", "float"}, "quantized") == "float";
  o.epochs = params.integer("epochs", 0, 1000, 0);
  o.learning_rate = params.number("learning_rate", 0, 1, kUsualLearningRate);
  const auto check = [&](bool together, const char* what) {
    require(together, ErrorCode::kInvalidInput, "recipe ", recipe.name,
            ": token_wise_clipping: ", what);
  };
  check(o.percentile == 0 || (o.step == 0 && o.candidates == 0),
        "step and candidates have no effect beside percentile, which leaves nothing to search; "
        "leave them out");
  check(o.percentile == 0 || o.epochs > 0 || (o.loss == ClippingLoss::kAuto && !o.float_weights),
        "loss and weights have no effect beside percentile, which leaves nothing to search; leave "
        "them out");
  check(o.epochs > 0 || o.learning_rate == kUsualLearningRate,
        "learning_rate has no effect without epochs; leave it out");
  return std::make_unique<TokenWiseClipping>(o);
}

}  // namespace

extern const PassFactory k_token_wise_clipping;
const PassFactory k_token_wise_clipping = {"token_wise_clipping", make};

}  // namespace quell
