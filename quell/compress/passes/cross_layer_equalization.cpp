// Cross-layer equalization (Nagel et al., Data-Free Quantization Through Weight Equalization and
// Bias Correction, ICCV 2019, section 4.1): the scale of OS+ through a ReLU, chosen so that a
// channel's weights reach as far in the layer that makes it as in those that read it.
//   s_c = sqrt(r1_c / r2_c),   r1_c = max |w| of the row that makes channel c, r2_c = max |w| of
//   the columns that read it, over all pairs of layers again and again until nothing changes
// Inputs: weights alone. Output: one ShiftScale a site, before anything is quantized. A ReLU6
// becomes a clamp with a bound for each channel, so the float function stays what it was.
#include <algorithm>
#include <cmath>
#include <map>

#include "quell/compress/pass.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

constexpr double kSmallest = 1e-4;  // of a range, beside the largest of its layer: dead channels
constexpr double kLargestScale = 1e3;

/// The largest magnitudes of a weight by row and channel of the input, while scales are tried.
class Reach {
 public:
  Reach(const Model& model, NodeId product)
      : channels_(column_channels(model.graph.node(product), model.param_of(product).weight)) {
    const Tensor& w = model.param_of(product).weight;
    rows_ = w.rows();
    const std::int64_t group_in = channels_.group_in;
    magnitude_.assign(static_cast<std::size_t>(rows_ * group_in), 0.0);
    for (std::int64_t o = 0; o < rows_; ++o)
      for (std::int64_t k = 0; k < w.cols(); ++k) {
        double& m = magnitude_[static_cast<std::size_t>(o * group_in + k % group_in)];
        m = std::max(m, std::fabs(static_cast<double>(w.row(o)[k])));
      }
  }

  /// By output channel.
  std::vector<double> of_rows() const {
    std::vector<double> out(static_cast<std::size_t>(rows_));
    for_each([&](std::int64_t row, std::int64_t, double m) {
      double& to = out[static_cast<std::size_t>(row)];
      to = std::max(to, m);
    });
    return out;
  }
  /// By channel of the input: the larger of what is there and ours.
  void add_columns(std::vector<double>& out) const {
    for_each([&](std::int64_t, std::int64_t channel, double m) {
      double& to = out[static_cast<std::size_t>(channel)];
      to = std::max(to, m);
    });
  }
  void divide_rows(const std::vector<double>& scale) {
    change(
        [&](std::int64_t row, std::int64_t) { return 1 / scale[static_cast<std::size_t>(row)]; });
  }
  void multiply_columns(const std::vector<double>& scale) {
    change([&](std::int64_t, std::int64_t c) { return scale[static_cast<std::size_t>(c)]; });
  }

 private:
  template <typename See>
  void for_each(const See& see) const {
    for (std::int64_t o = 0; o < rows_; ++o)
      for (std::int64_t i = 0; i < channels_.group_in; ++i)
        see(o, channels_.of(o, i),
            magnitude_[static_cast<std::size_t>(o * channels_.group_in + i)]);
  }
  template <typename Factor>
  void change(const Factor& factor) {
    for (std::int64_t o = 0; o < rows_; ++o)
      for (std::int64_t i = 0; i < channels_.group_in; ++i)
        magnitude_[static_cast<std::size_t>(o * channels_.group_in + i)] *=
            factor(o, channels_.of(o, i));
  }

  ColumnChannels channels_;
  std::int64_t rows_ = 0;
  std::vector<double> magnitude_;  ///< [rows, channels that a row sees]
};

/// A site between one product that makes its channels and those that read them.
struct Pair {
  const Site* site = nullptr;
  NodeId producer = kNoNode;
  std::vector<NodeId> consumers;
  std::vector<double> scale;  ///< [C], of all rounds together
};

class CrossLayerEqualization final : public Pass {
 public:
  CrossLayerEqualization(std::int64_t rounds, const Recipe& recipe)
      : rounds_(rounds), recipe_(recipe) {}
  PassStage stage() const override { return PassStage::kEquivalence; }
  bool takes_convolutions() const override { return true; }
  bool may_change(const Site& site) const override { return site.migratable(); }

  Plan plan_equivalences(const Model& model) const override {
    const std::vector<Site> sites = derive_sites(model, scope());
    std::map<NodeId, Reach> reaches;
    std::vector<Pair> pairs;
    for (const Site& site : sites) {
      if (!is_pair(site)) continue;
      Pair pair{&site, site.values.front().producer_node, site.linears, {}};
      pair.consumers.insert(pair.consumers.end(), site.absorbers.begin(), site.absorbers.end());
      reaches.try_emplace(pair.producer, model, pair.producer);
      for (const NodeId n : pair.consumers) reaches.try_emplace(n, model, n);
      pair.scale.assign(reaches.at(pair.producer).of_rows().size(), 1.0);
      pairs.push_back(std::move(pair));
    }
    for (std::int64_t round = 0; round < rounds_; ++round) {
      double change = 0;
      for (Pair& pair : pairs) change = std::max(change, equalize(pair, reaches));
      constexpr double kSettled = 1e-3;
      if (change < kSettled) break;
    }

    Plan plan;
    for (const Pair& pair : pairs) {
      Tensor scale = Tensor::f32({static_cast<std::int64_t>(pair.scale.size())});
      std::transform(pair.scale.begin(), pair.scale.end(), scale.f32().begin(),
                     [](double s) { return static_cast<float>(s); });
      plan.emplace_back(pair.site->change(std::move(scale), Tensor()));
    }
    return plan;
  }

 private:
  SiteScope scope() const {
    return {.projections = recipe_.quantize_projections,
            .head = recipe_.quantize_head,
            .through_relu = true};
  }

  /// Where nothing but products takes part, so that no branch would have to undo the scale.
  static bool is_pair(const Site& site) {
    if (!site.migratable() || site.values.size() != 1) return false;
    const ChangedValue& v = site.values.front();
    const bool by_rows =
        v.producer == ProducerKind::kLinear || v.producer == ProducerKind::kLinearRows;
    return by_rows && !v.restore && v.shared.heads == 1;
  }

  /// One step of the paper's; returns how far the largest scale is from 1.
  static double equalize(Pair& pair, std::map<NodeId, Reach>& reaches) {
    const std::vector<double> made = reaches.at(pair.producer).of_rows();
    std::vector<double> read(made.size());
    for (const NodeId n : pair.consumers) reaches.at(n).add_columns(read);

    const double least_made = kSmallest * *std::max_element(made.begin(), made.end());
    const double least_read = kSmallest * *std::max_element(read.begin(), read.end());
    std::vector<double> step(made.size(), 1.0);
    double change = 0;
    for (std::size_t c = 0; c < step.size(); ++c) {
      if (made[c] <= least_made || read[c] <= least_read) continue;
      const double wanted = pair.scale[c] * std::sqrt(made[c] / read[c]);
      step[c] = std::clamp(wanted, 1 / kLargestScale, kLargestScale) / pair.scale[c];
      pair.scale[c] *= step[c];
      change = std::max(change, std::fabs(step[c] - 1));
    }
    reaches.at(pair.producer).divide_rows(step);
    for (const NodeId n : pair.consumers) reaches.at(n).multiply_columns(step);
    return change;
  }

  std::int64_t rounds_;
  Recipe recipe_;
};

}  // namespace

extern const PassFactory k_cross_layer_equalization;
const PassFactory k_cross_layer_equalization = {
    "cross_layer_equalization",
    [](const PassParams& params, const Recipe& recipe) -> std::unique_ptr<Pass> {
      params.check_keys({"rounds"});
      return std::make_unique<CrossLayerEqualization>(params.integer("rounds", 1, 1000, 40),
                                                      recipe);
    }};

}  // namespace quell
