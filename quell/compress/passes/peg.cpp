// Per-embedding-group quantization (Bondarenko et al., EMNLP 2021), the baseline of both Outlier
// Suppression papers: channels sorted by the range they span and cut into groups of one size, each
// with a static step of its own. Folded (not in the paper): the steps go into norms and columns of
// weights, so that activations keep one step a tensor,
//   x'_j = (x_j - shift_g) / s_g,   s_g = (max_g - min_g) / (max* - min*),   shift_g = min_g - s_g
//   min*,
// where * is the widest group. Without biases to take a shift, or with symmetric activations, s_g =
// max|x|_g / max|x|*. Inputs: channel extrema over all batches, and what the observer makes of each
// group. Output: one SetInputQuant a value of a site; folded, one ShiftScale a site.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/compress/channel_split.h"
#include "quell/compress/channel_stats.h"
#include "quell/compress/pass.h"

namespace quell {
namespace {

float width(const Range& r) { return r.max - r.min; }
Range hull(const Range& a, const Range& b) {
  return {std::min(a.min, b.min), std::max(a.max, b.max)};
}

/// Channels in the order of their widths, or as they are.
std::vector<std::int32_t> channels_by_width(const std::vector<Range>& channels, bool permute) {
  std::vector<std::int32_t> order(channels.size());
  std::iota(order.begin(), order.end(), 0);
  const auto of = [&](std::int32_t j) { return width(channels[static_cast<std::size_t>(j)]); };
  if (permute)
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int32_t a, std::int32_t b) { return of(a) < of(b); });
  return order;
}

class PerEmbeddingGroups final : public Pass {
 public:
  PerEmbeddingGroups(std::int64_t groups, bool permute, const Recipe& recipe)
      : groups_(groups), permute_(permute), recipe_(recipe) {}
  PassStage stage() const override { return PassStage::kEquivalence; }

  bool may_change(const Site& site) const override { return site.in_block; }
  bool may_be_explicit(const Site&) const override { return false; }
  Plan plan(const Site& site, const SiteActivations& activations, ExecContext&) const override {
    if (!may_change(site)) return {};
    const ChannelStats stats = channel_stats(activations, false, site.name);
    const std::int64_t count = group_count(static_cast<std::int64_t>(stats.max.size()));
    if (count == 0) {
      log(LogLevel::kWarning, str("peg: ", site.name, " has ", stats.max.size(),
                                  " channels, which no kernel takes in groups; it keeps one step"));
      return {};
    }
    ChannelGroups groups;
    std::vector<Range> channels;
    for (std::size_t j = 0; j < stats.max.size(); ++j)
      channels.push_back({std::min(stats.min[j], 0.0F), std::max(stats.max[j], 0.0F)});
    groups.channels = channels_by_width(channels, permute_);
    std::vector<std::unique_ptr<Observer>> observers;
    for (std::int64_t g = 0; g < count; ++g)
      observers.push_back(make_observer(recipe_.observer, recipe_.activations));
    const std::size_t first_batch = recipe_.observer.first_batch_twice ? site.values.size() : 0;
    for (std::size_t b = 0; b < first_batch; ++b)
      observe(activations, b, groups.channels, observers);
    for (std::size_t b = 0; b < activations.x.size(); ++b)
      observe(activations, b, groups.channels, observers);
    Range whole;
    for (const auto& observer : observers) {
      groups.steps.push_back(calculate_qparams(observer->range(), recipe_.activations));
      whole = hull(whole, observer->range());
    }
    return site.set_input_quant({recipe_.activations, calculate_qparams(whole, recipe_.activations),
                                 std::make_shared<const ChannelGroups>(std::move(groups))});
  }

 private:
  /// As many as asked for where kernels take them, else fewer; 0: none.
  std::int64_t group_count(std::int64_t channels) const {
    constexpr std::int64_t kUnit = 8;  // columns that every kernel takes together
    for (std::int64_t count = std::min(groups_, channels); count > 0; --count)
      if (channels % (count * kUnit) == 0) return count;
    return 0;
  }

  static void observe(const SiteActivations& activations, std::size_t b,
                      const std::vector<std::int32_t>& channels,
                      std::vector<std::unique_ptr<Observer>>& observers) {
    const Tensor &x = *activations.x[b], columns = repeat_columns(x, channels);
    const std::size_t size = channels.size() / observers.size();
    for (std::size_t g = 0; g < observers.size(); ++g) {
      std::vector<std::span<const float>> rows;
      for (std::int64_t i = 0; i < x.rows(); ++i)
        if (row_counts(x, *activations.batches[b], i))
          rows.emplace_back(columns.row(i) + g * size, size);
      if (!rows.empty()) observers[g]->observe(rows);
    }
  }

  std::int64_t groups_;
  bool permute_;
  Recipe recipe_;
};

class FoldedGroups final : public Pass {
 public:
  FoldedGroups(std::int64_t groups, bool permute, bool make_explicit, bool symmetric)
      : groups_(groups), permute_(permute), explicit_(make_explicit), symmetric_(symmetric) {}
  PassStage stage() const override { return PassStage::kEquivalence; }

  bool may_change(const Site& site) const override {
    if (site.only_explicit) return site.in_block && explicit_;
    return site.in_block && site.migratable() && site.producers_can_change();
  }
  Plan plan(const Site& site, const SiteActivations& activations, ExecContext&) const override {
    if (!may_change(site)) return {};
    const ChannelStats stats = channel_stats(activations, false, site.name);
    const auto channels = static_cast<std::int64_t>(stats.max.size()),
               groups = std::min(groups_, channels);
    // As OS+ has it: where only a quantizer could take a shift, the resting value of a GELU would
    // pay for it.
    const bool shifts = site.takes_shift && site.bias_everywhere && !site.only_explicit &&
                        !site.through_step && !symmetric_;
    std::vector<Range> of_channel;
    for (std::size_t j = 0; j < stats.max.size(); ++j) {
      const float low = std::min(stats.min[j], 0.0F), high = std::max(stats.max[j], 0.0F),
                  most = std::max(-low, high);
      of_channel.push_back(shifts ? Range{low, high} : Range{-most, most});
    }
    const std::vector<std::int32_t> order = channels_by_width(of_channel, permute_);
    std::vector<Range> ranges(static_cast<std::size_t>(groups));
    const auto group_of = [&](std::int64_t place) {
      return static_cast<std::size_t>(place * groups / channels);
    };
    for (std::int64_t i = 0; i < channels; ++i) {
      Range& group = ranges[group_of(i)];
      group = hull(group, of_channel[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])]);
    }
    const Range widest =
        *std::max_element(ranges.begin(), ranges.end(),
                          [&](const Range& a, const Range& b) { return width(a) < width(b); });
    Tensor scale = Tensor::f32({channels}), shift = shifts ? Tensor::f32({channels}) : Tensor();
    for (std::int64_t i = 0; i < channels; ++i) {
      const Range& group = ranges[group_of(i)];
      const auto j = static_cast<std::size_t>(order[static_cast<std::size_t>(i)]);
      const float s =
          width(group) > 0 ? width(group) / width(widest) : 1.0F;  // a dead group stays as it is
      scale.f32()[j] = s;
      if (shifts) shift.f32()[j] = width(group) > 0 ? group.min - s * widest.min : 0.0F;
    }
    tie_largest(site.shared(), scale.f32());
    Plan plan;
    plan.push_back(site.change(std::move(scale), std::move(shift)));
    return plan;
  }

 private:
  std::int64_t groups_;
  bool permute_, explicit_, symmetric_;
};

std::unique_ptr<Pass> make(const PassParams& params, const Recipe& recipe) {
  params.check_keys({"groups", "permute", "folded", "explicit"});
  const auto groups = params.integer("groups", 1, 1000000, 6);
  const bool permute = params.flag("permute", true), folded = params.flag("folded", false),
             is_explicit = params.flag("explicit", false);
  if (folded)
    return std::make_unique<FoldedGroups>(groups, permute, is_explicit,
                                          recipe.activations.symmetric);
  require(!is_explicit, ErrorCode::kInvalidInput, "recipe ", recipe.name,
          ": peg: explicit goes with folded: true; groups with steps of their own need nothing "
          "folded anywhere");
  require(is_static_per_tensor({recipe.activations, {}}), ErrorCode::kInvalidInput, "recipe ",
          recipe.name,
          ": peg: steps of groups are static; use activations: {granularity: tensor, dynamic: "
          "false}, or folded: true");
  require(recipe.weights.granularity != Granularity::kPerGroup, ErrorCode::kInvalidInput, "recipe ",
          recipe.name,
          ": peg: weights in groups and groups of channels have no integer kernel; use weights: "
          "{granularity: channel}");
  return std::make_unique<PerEmbeddingGroups>(groups, permute, recipe);
}

}  // namespace

extern const PassFactory k_peg;
const PassFactory k_peg = {"peg", make};

}  // namespace quell
