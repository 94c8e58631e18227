// GPTQ (Frantar et al., ICLR 2023): weight codes that make up for each other's rounding errors on
// the calibration inputs.
//   w_j <- w_j - (w_k - q_k) / U_kk * U_kj for all columns j behind k, H^-1 = U^T U, H = X^T X +
//   damping * mean(diag) * I
// Inputs: what the site's linears read, behind quantized predecessors and after migration. Output:
// one ReplaceWeight a linear.
#include "quell/compress/gptq.h"

#include <utility>

#include "quell/base/error.h"
#include "quell/compress/pass.h"

namespace quell {
namespace {

class Gptq final : public Pass {
 public:
  Gptq(double damping, bool by_size, std::int64_t sweeps, WeightRange range, const Recipe& recipe)
      : damping_(damping), by_size_(by_size), sweeps_(sweeps), range_(range), recipe_(recipe) {}
  PassStage stage() const override { return PassStage::kWeights; }

  PassEffort effort(const Site& site) const override {
    // X^T X, and rounding, which touches every weight once for each column of its row, in a loop
    // that is no product; descent starts with a product and then does the same for every code that
    // moves, a fifth of them as a rule.
    constexpr double kTokens = 2048, kLoop = 8, kMoves = 0.2;
    const Tensor& w = site.model->param_of(site.linears.front()).weight;
    const auto rows = static_cast<double>(w.rows()), columns = static_cast<double>(w.cols());
    const double descent = sweeps_ > 0 ? (1 + kLoop * kMoves) * columns / kTokens : 0;
    return {.float_products = columns / rows + kLoop * columns / kTokens + descent};
  }
  Plan plan(const Site& site, const SiteActivations& activations, ExecContext& ctx) const override {
    // Linears of a site share what they multiply, and so the factor.
    GptqFactor shared;
    const Tensor* factored = nullptr;
    const auto round = [&](const TensorView& w, QTensor q, const InputMoments& inputs,
                           ExecContext& with) {
      const Tensor& gram = inputs.gram;
      GptqFactor own;
      const bool is_shared = !site.has_convolution;
      if (is_shared && factored != &gram) {
        shared = make_gptq_factor(gram, damping_, by_size_, with);
        factored = &gram;
      } else if (!is_shared) {
        own = make_gptq_factor(gram, damping_, by_size_, with);
      }
      q = gptq_round(w, std::move(q), is_shared ? shared : own, with);
      if (sweeps_ > 0) q = descend_codes(w, std::move(q), gram, damping_, sweeps_, with);
      return q;
    };

    return plan_by_outputs(site, recipe_, range_, activations, round, ctx);
  }

 private:
  double damping_;
  bool by_size_;
  std::int64_t sweeps_;
  WeightRange range_;
  Recipe recipe_;
};

}  // namespace

extern const PassFactory k_gptq;
const PassFactory k_gptq = {
    "gptq", [](const PassParams& params, const Recipe& recipe) -> std::unique_ptr<Pass> {
      params.check_keys({"damping", "order", "sweeps", "range"});
      const bool grouped = recipe.weights.granularity == Granularity::kPerGroup;
      const std::string order =
          params.choice("order", {"size", "columns"}, grouped ? "columns" : "size");
      require(!grouped || order == "columns", ErrorCode::kInvalidInput, "recipe ", recipe.name,
              ": gptq with weights in groups rounds columns as they stand; use order: columns");
      const WeightRange range = weight_range_of(params, recipe);
      require(!grouped || range == WeightRange::kMinMax, ErrorCode::kInvalidInput, "recipe ",
              recipe.name,
              ": gptq with weights in groups takes their ranges as they stand; leave range out");
      const auto sweeps = params.integer("sweeps", 0, 1000, 0);
      return std::make_unique<Gptq>(params.number("damping", 1e-6, 10, 0.01), order == "size",
                                    sweeps, range, recipe);
    }};

}  // namespace quell
