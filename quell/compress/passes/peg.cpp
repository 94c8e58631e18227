// Per-embedding-group quantization (Bondarenko et al., EMNLP 2021), the baseline of both Outlier Suppression papers: channels
// sorted by the range they span and cut into groups of one size, each with a range of its own. The paper keeps an integer sum a
// group; here the steps are folded into the columns of the weights,
//   x'_j = (x_j - shift_g) / s_g,   s_g = (max_g - min_g) / (max* - min*),   shift_g = min_g - s_g min*,
// where * is the widest group, so that one integer sum is left, and one step a tensor. Without biases to take a shift, or with
// symmetric activations, s_g = max|x|_g / max|x|*.
// Inputs: channel extrema over all batches. Output: one ShiftScale a site.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "quell/compress/channel_stats.h"
#include "quell/compress/pass.h"

namespace quell {
namespace {

class PerEmbeddingGroups final : public Pass {
 public:
  PerEmbeddingGroups(std::int64_t groups, bool permute, bool make_explicit, bool symmetric)
      : groups_(groups), permute_(permute), explicit_(make_explicit), symmetric_(symmetric) {}
  PassStage stage() const override { return PassStage::kEquivalence; }

  bool may_change(const Site& site) const override {
    if (site.only_explicit) return site.in_block && explicit_;
    return site.in_block && site.migratable() && site.producers_can_change();
  }
  Plan plan(const Site& site, const SiteActivations& activations, ExecContext&) const override {
    if (!may_change(site)) return {};
    const ChannelStats stats = channel_stats(activations, false, site.name);
    const auto channels = static_cast<std::int64_t>(stats.max.size()), groups = std::min(groups_, channels);
    // As OS+ has it: where only a quantizer could take a shift, the resting value of a GELU would pay for it.
    const bool shifts = site.takes_shift && site.bias_everywhere && !site.only_explicit && !site.through_step && !symmetric_;
    const auto range_of_channel = [&](std::int64_t j) {
      const float low = std::min(stats.min[static_cast<std::size_t>(j)], 0.0F),
                  high = std::max(stats.max[static_cast<std::size_t>(j)], 0.0F);
      if (shifts) return Range{low, high};
      const float most = std::max(-low, high);
      return Range{-most, most};
    };
    const auto width = [](const Range& r) { return r.max - r.min; };
    std::vector<std::int64_t> order(static_cast<std::size_t>(channels));
    std::iota(order.begin(), order.end(), 0);
    if (permute_)
      std::stable_sort(order.begin(), order.end(),
                       [&](std::int64_t a, std::int64_t b) { return width(range_of_channel(a)) < width(range_of_channel(b)); });
    std::vector<Range> ranges(static_cast<std::size_t>(groups));
    const auto group_of = [&](std::int64_t place) { return static_cast<std::size_t>(place * groups / channels); };
    for (std::int64_t i = 0; i < channels; ++i) {
      const Range channel = range_of_channel(order[static_cast<std::size_t>(i)]);
      Range& group = ranges[group_of(i)];
      group = {std::min(group.min, channel.min), std::max(group.max, channel.max)};
    }
    const Range widest =
        *std::max_element(ranges.begin(), ranges.end(), [&](const Range& a, const Range& b) { return width(a) < width(b); });
    Tensor scale = Tensor::f32({channels}), shift = shifts ? Tensor::f32({channels}) : Tensor();
    for (std::int64_t i = 0; i < channels; ++i) {
      const Range& group = ranges[group_of(i)];
      const auto j = static_cast<std::size_t>(order[static_cast<std::size_t>(i)]);
      const float s = width(group) > 0 ? width(group) / width(widest) : 1.0F;  // a dead group stays as it is
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

}  // namespace

extern const PassFactory k_peg;
const PassFactory k_peg = {"peg", [](const PassParams& params, const Recipe& recipe) -> std::unique_ptr<Pass> {
                             params.check_keys({"groups", "permute", "explicit"});
                             return std::make_unique<PerEmbeddingGroups>(
                                 static_cast<std::int64_t>(params.number("groups", 1, 1e6, 6)), params.flag("permute", true),
                                 params.flag("explicit", false), recipe.activations.symmetric);
                           }};

}  // namespace quell
