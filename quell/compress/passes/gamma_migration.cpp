// Gamma Migration (Wei et al., Outlier Suppression, NeurIPS 2022, section 4.1): where a norm feeds
// both linears and a residual branch, its gamma, which amplifies outliers, moves behind the
// quantizer: into the columns of the linears and onto the branch.
//   LN(x) = x' * gamma, x' = (x - mean) / std + beta / gamma; a channel whose gamma is 0 has
//   nothing to move and stays.
// Inputs: none but the weights. Output: one ShiftScale a site, its scale the gamma.
#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/compress/pass.h"

namespace quell {
namespace {

class GammaMigration final : public Pass {
 public:
  explicit GammaMigration(bool compat) : compat_(compat) {}
  PassStage stage() const override { return PassStage::kEquivalence; }

  bool may_change(const Site& site) const override {
    if (!site.migratable() || !site.in_block || site.values.size() != 1 || !feeds_residual(site))
      return false;
    const ChangedValue& v = site.values.front();
    return v.producer == ProducerKind::kNorm &&
           site.model->param_of(v.producer_node).weight.defined();
  }
  Plan plan_model(const Model& model) const override {
    Plan plan;
    if (compat_ && first_norm(model.graph).eps != kOfficialEpsilon)
      plan.emplace_back(SetNormEpsilon{kOfficialEpsilon});
    return plan;
  }
  Plan plan(const Site& site, const SiteActivations&, ExecContext&) const override {
    if (!may_change(site)) return {};
    const Param& norm = site.model->param_of(site.values.front().producer_node);
    float largest = 0;
    for (const float g : norm.weight.f32()) largest = std::max(largest, std::fabs(g));
    Tensor scale = norm.weight.clone();
    std::int64_t kept = 0;
    for (float& g : scale.f32())
      if (std::fabs(g) <= kSmallest * largest) {
        g = 1;
        ++kept;
      }
    if (kept > 0)
      log(LogLevel::kWarning, str(norm.module, ".weight: ", kept, " of ", scale.numel(),
                                  " channels are 0, which nothing can be divided "
                                  "by; they stay as they are"));
    Plan plan;
    plan.push_back(site.change(std::move(scale), Tensor()));
    return plan;
  }

 private:
  static constexpr double kOfficialEpsilon = 1e-5;
  static constexpr float kSmallest =
      1e-6F;  // beta / gamma must stay a number that f32 adds up with the rest

  bool compat_;  ///< norms with the epsilon that the official code puts into migrated ones

  static bool feeds_residual(const Site& site) {
    const Graph& graph = site.model->graph;
    const std::vector<NodeId> readers = readers_of(graph, site.value());
    return std::any_of(readers.begin(), readers.end(),
                       [&](NodeId n) { return graph.node(n).is(op_add); });
  }
};

}  // namespace

extern const PassFactory k_gamma_migration;
const PassFactory k_gamma_migration = {
    "gamma_migration", [](const PassParams& params, const Recipe&) -> std::unique_ptr<Pass> {
      params.check_keys({"epsilon"});
      return std::make_unique<GammaMigration>(
          params.choice("epsilon", {"exact", "compat"}, "exact") == "compat");
    }};

}  // namespace quell
