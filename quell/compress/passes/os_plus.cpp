// Outlier Suppression+ (Wei et al., EMNLP 2023; docs/numerics.md): channel-wise shift and scale of
// what norms hand to linears, migrated into both. Inputs: the site's activations behind quantized
// predecessors. Output: one ShiftScale a site.
//   shift_j = (max_j + min_j) / 2 where biases can take it;   s_j by the threshold search of
//   os_plus_search.h.
#include <algorithm>
#include <numeric>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/compress/channel_stats.h"
#include "quell/compress/convolution_scale.h"
#include "quell/compress/os_plus_search.h"
#include "quell/compress/pass.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

enum class ShiftChoice { kAuto, kAlways, kNever };

struct Settings {
  ShiftChoice shift = ShiftChoice::kAuto;  ///< auto: only where norm and linears have biases
  bool scale = true;
  bool first_batch = false;
  bool include_padding = false;
  bool explicit_affine =
      false;  ///< also where nothing in front can absorb the change: the quantizer does
  StackOrder stack = StackOrder::kSplit;
  bool explicit_shift = false;  ///< there too: the resting value of a GELU then has a rounding
                                ///< error that all tokens share
  LossArithmetic arithmetic = LossArithmetic::kInteger;
  RaceRule rule = RaceRule::kExact;
  bool holdout = false;
  double peers = 0;
  double split = 0;  ///< share of columns that may be added where channels can be split
  ThresholdGrid grid = ThresholdGrid::kCode;
  double floor = 0;  ///< 0: 1 for models with LayerNorm, 0.1 with RMSNorm, as the reference
};

class OsPlus final : public Pass {
 public:
  OsPlus(const Settings& settings, const Recipe& recipe) : settings_(settings), recipe_(recipe) {}
  PassStage stage() const override { return PassStage::kEquivalence; }
  SampleChoice samples() const override {
    return settings_.first_batch ? SampleChoice::kFirstBatch : SampleChoice::kAll;
  }

  bool takes_convolutions() const override { return true; }
  bool may_change(const Site& site) const override { return applies(site); }
  bool may_be_explicit(const Site& site) const override {
    if (site.has_convolution || !applies(site)) return false;
    return site.only_explicit || options(site).split_columns > 0;
  }
  PassEffort effort(const Site& site) const override {
    constexpr double kConvolutionTrials = 20;
    if (site.has_convolution) return {.float_products = settings_.scale ? kConvolutionTrials : 0};
    constexpr double kCandidates = 100;  // of a grid, at least
    const double raced = settings_.rule == RaceRule::kSampled
                             ? 0.15
                             : 0.3;  // the share of rows multiplied before they are out
    const double grids = options(site).split_columns > 0 ? 2 : 1;
    return {.integer_products = settings_.scale ? kCandidates * raced * grids : 0,
            .float_products = 1};
  }
  Plan plan(const Site& site, const SiteActivations& activations, ExecContext& ctx) const override {
    if (!applies(site)) return {};
    if (site.has_convolution) return plan_convolutions(site, activations, ctx);
    SiteProblem problem =
        describe_site(site, activations, recipe_.weights, recipe_.activations, settings_.stack);
    Tensor shift;
    if (wants_shift(site)) {
      shift = make_shift(activations, site.name);
      subtract_shift(shift, problem);
    }
    Tensor scale;
    if (settings_.scale) {
      OsPlusResult result = search_threshold(problem, options(site), ctx);
      if (const RaceResult& r = result.race; r.best >= 0) {
        const auto best = static_cast<std::size_t>(r.best);
        log(LogLevel::kDebug,
            str(site.name, ": threshold ", result.thresholds[best], " of ",
                result.thresholds.front(), ", loss ", r.losses[best], " (unscaled ",
                r.complete.front() ? "" : "at least ", r.losses.front(), "), ",
                result.sources.empty() ? 0 : result.scale.numel() - problem.weight.cols(),
                " columns more"));
      }
      if (!result.sources.empty()) return split_plan(site, std::move(result), shift);
      scale = std::move(result.scale);
    } else {
      scale = Tensor::f32({problem.weight.cols()});
      std::fill(scale.f32().begin(), scale.f32().end(), 1.0F);
    }
    Plan plan;
    plan.push_back(site.change(std::move(scale), std::move(shift)));
    return plan;
  }

 private:
  /// A scale alone: what lies around an image would have to be shifted too.
  Plan plan_convolutions(const Site& site, const SiteActivations& activations,
                         ExecContext& ctx) const {
    Plan plan;
    if (!settings_.scale || recipe_.activations.dynamic) return plan;
    plan.emplace_back(site.change(
        search_convolution_scale(site, activations, recipe_.weights, recipe_.activations, ctx),
        Tensor()));
    return plan;
  }

  /// The shifts of copies are fractions of the step that the search saw, so that range is the
  /// quantizer's.
  Plan split_plan(const Site& site, OsPlusResult result, const Tensor& shift) const {
    if (shift.defined())
      for (std::size_t c = 0; c < result.sources.size(); ++c)
        result.shift.f32()[c] += shift.f32()[static_cast<std::size_t>(result.sources[c])];
    Plan plan;
    plan.emplace_back(site.split(std::move(result.sources)));
    plan.emplace_back(site.change(std::move(result.scale), std::move(result.shift), true));
    plan.emplace_back(SetInputQuant{
        site.value(), {recipe_.activations, calculate_qparams(result.range, recipe_.activations)}});
    return plan;
  }

  /// In blocks, as the reference; at convolutions everywhere.
  bool applies(const Site& site) const {
    if (site.has_convolution) return site.migratable() && site.producers_can_change();
    if (!site.migratable() && !(site.only_explicit && settings_.explicit_affine)) return false;
    if (!site.in_block) return false;
    return site.only_explicit || site.producers_can_change();
  }

  bool wants_shift(const Site& site) const {
    if (!site.takes_shift || settings_.shift == ShiftChoice::kNever) return false;
    if (site.only_explicit) return settings_.explicit_shift;
    return settings_.shift == ShiftChoice::kAlways || site.bias_everywhere;
  }

  OsPlusOptions options(const Site& site) const {
    OsPlusOptions o;
    const bool rms = first_norm(site.model->graph).kind == NormKind::kRmsNorm;
    o.floor = rms ? 0.1 : 1.0;
    if (settings_.floor > 0) o.floor = settings_.floor;
    o.grid = settings_.grid;
    // Behind a ReLU, or without the shift that centres values, (-t, t) is more than the channels
    // span.
    o.tight_range = (site.only_explicit && !settings_.explicit_shift) ||
                    (site.through_step && !wants_shift(site));
    o.include_padding = settings_.include_padding;
    o.race.arithmetic = settings_.arithmetic;
    o.race.rule = settings_.rule;
    o.holdout = settings_.holdout;
    o.peers = settings_.peers;
    if (!site.widening.empty() && !recipe_.activations.dynamic) {
      o.split_unit = std::lcm(o.split_unit, recipe_.weights.granularity == Granularity::kPerGroup
                                                ? recipe_.weights.group_size
                                                : 1);
      const std::int64_t columns = site.model->param_of(site.linears.front()).weight.cols();
      o.split_columns = static_cast<std::int64_t>(settings_.split * static_cast<double>(columns));
    }
    return o;
  }

  Tensor make_shift(const SiteActivations& activations, const std::string& name) const {
    const ChannelStats stats = channel_stats(activations, settings_.include_padding, name);
    Tensor shift = Tensor::f32({static_cast<std::int64_t>(stats.max.size())});
    const auto rounded = [type = rounded_to(settings_.arithmetic)](float v) {
      return round_to(type, v);
    };
    for (std::size_t j = 0; j < stats.max.size(); ++j)
      shift.f32()[j] = rounded(rounded(rounded(stats.max[j]) + rounded(stats.min[j])) / 2.0F);
    return shift;
  }

  Settings settings_;
  Recipe recipe_;
};

/// Room for channels at rest is paid in resolution, of which few bits have little: measured on
/// all-MiniLM-L6-v2 (docs/accuracy.md).
double peers_by_bits(int bits) {
  return bits >= 8 ? 0.998 : bits == 7 ? 0.98 : bits == 6 ? 0.95 : 0;
}

/// Settings that others leave without effect.
void check_together(const Settings& s, const Recipe& recipe) {
  const auto check = [&](bool together, const char* what) {
    require(together, ErrorCode::kInvalidInput, "recipe ", recipe.name, ": os_plus: ", what);
  };
  check(s.scale || s.shift != ShiftChoice::kNever,
        "with scale: false and shift: never it does nothing; leave it out");
  const bool searches_as_usual = s.floor == 0 && s.peers == 0 && s.split == 0 && !s.holdout &&
                                 s.grid == ThresholdGrid::kCode && s.rule == RaceRule::kExact;
  check(s.scale || searches_as_usual,
        "with scale: false there is no search, and floor, grid, peers, holdout, split and race "
        "have no effect; leave them out");
  check(!s.explicit_shift || s.explicit_affine,
        "explicit_shift has no effect without explicit: true");
  check(!s.explicit_shift || s.shift != ShiftChoice::kNever,
        "explicit_shift has no effect with shift: never");
  check(!s.holdout || !s.first_batch,
        "holdout judges on the odd batches, which samples: first_batch leaves out");
}

std::unique_ptr<Pass> make(const PassParams& params, const Recipe& recipe) {
  params.check_keys({"shift", "scale", "samples", "padding", "floor", "explicit", "arithmetic",
                     "bloom_layout", "explicit_shift", "split", "holdout", "peers", "grid",
                     "race"});
  Settings s;
  const std::string shift = params.choice("shift", {"auto", "always", "never"}, "auto");
  s.shift = shift == "auto"     ? ShiftChoice::kAuto
            : shift == "always" ? ShiftChoice::kAlways
                                : ShiftChoice::kNever;
  s.scale = params.flag("scale", true);
  s.explicit_affine = params.flag("explicit", false);
  s.first_batch = params.choice("samples", {"all", "first_batch"}, "all") == "first_batch";
  // The reference reads one batch, padding included.
  s.include_padding = params.choice("padding", {"exclude", "include"},
                                    s.first_batch ? "include" : "exclude") == "include";
  const std::string arithmetic =
      params.choice("arithmetic", {"integer", "f32", "f16", "bf16"}, "integer");
  s.arithmetic = arithmetic == "f32"    ? LossArithmetic::kF32
                 : arithmetic == "f16"  ? LossArithmetic::kF16
                 : arithmetic == "bf16" ? LossArithmetic::kBF16
                                        : LossArithmetic::kInteger;
  s.stack = params.choice("bloom_layout", {"correct", "compat"}, "correct") == "compat"
                ? StackOrder::kByHead
                : StackOrder::kSplit;
  s.rule = params.choice("race", {"exact", "sampled"}, "exact") == "sampled" ? RaceRule::kSampled
                                                                             : RaceRule::kExact;
  s.explicit_shift = params.flag("explicit_shift", false);
  s.holdout = params.flag("holdout", false);
  s.peers = params.values().contains("peers") && params.values().at("peers") == "auto"
                ? peers_by_bits(recipe.activations.num_bits)
                : params.number("peers", 0, 1, 0);
  s.split = params.number("split", 0, 1, 0);
  require(s.split == 0 || s.explicit_affine, ErrorCode::kInvalidInput, "recipe ", recipe.name,
          ": os_plus: split needs explicit: true, since a quantizer has to undo it");
  require(s.split == 0 || rounded_to(s.arithmetic) == DType::kF32, ErrorCode::kInvalidInput,
          "recipe ", recipe.name, ": os_plus: arithmetic: ", arithmetic,
          " is the reference's, which splits no channels; leave split out");
  s.grid = params.choice("grid", {"code", "paper"}, "code") == "paper" ? ThresholdGrid::kPaper
                                                                       : ThresholdGrid::kCode;
  s.floor = params.number("floor", 0, 1e6, 0);
  require(s.grid == ThresholdGrid::kCode || s.floor == 0, ErrorCode::kInvalidInput, "recipe ",
          recipe.name,
          ": os_plus: grid: paper ends at a K-th of the largest magnitude; leave floor out");
  check_together(s, recipe);
  return std::make_unique<OsPlus>(s, recipe);
}

}  // namespace

extern const PassFactory k_os_plus;
const PassFactory k_os_plus = {"os_plus", make};

}  // namespace quell
