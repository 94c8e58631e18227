// What every site of a quantized model does to its outputs, measured on samples that calibration
// has not seen.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "quell/compress/site.h"
#include "quell/job/divergence.h"
#include "quell/job/site_report.h"

namespace quell {

/// Keeps references to what it is made with. Two models with the same nodes: the float one, and the
/// quantized one made of it.
class SiteMeasurer {
 public:
  SiteMeasurer(const Model& original, const Model& model, const Recipe& recipe,
               const std::vector<TokenBatch>& samples, ExecContext& ctx);

  /// Adds the sites to `report`, and says what was measured on the whole model.
  void run(SiteReport& report);

  /// Simulated operators, but float ones for some linears.
  OpTable ops_except(const std::vector<int>& linears) const;

  const std::vector<Site>& sites() const { return sites_; }
  /// Of the whole quantized model, and of all of it but for one site.
  const Divergences& all() const { return all_; }
  const Divergences& spared(std::size_t site) const { return spared_[site]; }
  /// By sample, of the float and of the quantized model; empty where the outputs are no classes.
  const std::vector<std::int64_t>& float_classes() const { return float_classes_; }
  const std::vector<std::int64_t>& quantized_classes() const { return quantized_classes_; }

 private:
  std::vector<Tensor> outputs(OpTable ops, bool quantized) const;
  Divergences divergence_of(const std::vector<Tensor>& got) const;

  void measure_whole(SiteReport& report);
  void measure_alone_and_spared(SiteReport& report);
  SiteMeasurement describe(const Site& site) const;
  /// One float pass; `after`: on the migrated model, with what its quantizers would do.
  void measure_ranges(const Model& model, SiteReport& report, bool after) const;
  void measure_inputs(const Site& site, const SiteActivations& x, SiteMeasurement& m) const;
  void measure_outputs(const Site& site, const SiteActivations& x, SiteMeasurement& m) const;

  const Model& original_;
  const Model& model_;
  const std::vector<TokenBatch>& samples_;
  ExecContext& ctx_;
  Divergence divergence_;
  std::vector<Site> sites_;
  std::map<std::string, std::string> kernels_;
  std::vector<Tensor> want_;
  Divergences all_;
  std::vector<Divergences> spared_;  ///< by site
  std::vector<std::int64_t> float_classes_;
  std::vector<std::int64_t> quantized_classes_;
};

}  // namespace quell
