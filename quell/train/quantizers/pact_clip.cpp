// Weights between two learned clips, with the step of the largest clipped magnitude: PACT's idea as
// TernaryBERT's and BinaryBERT's authors have it.
#include "quell/train/quantizer_math.h"
#include "quell/train/step_groups.h"

namespace quell::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

/// `value` forward; backward what is outside the clips, bounds included, goes to them.
class ClipPair : public torch::autograd::Function<ClipPair> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x,
                               const torch::Tensor& clip, const torch::Tensor& value) {
    ctx->save_for_backward({x, clip});
    return value.detach();
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor& x = saved[0];
    const torch::Tensor& g = gradients[0];
    const torch::Tensor below = x <= saved[1][0];
    const torch::Tensor above = x >= saved[1][1];
    const torch::Tensor to_clip =
        torch::stack({g.masked_fill(~below, 0).sum(), g.masked_fill(~above, 0).sum()});
    return {g.masked_fill(torch::logical_or(below, above), 0), to_clip, torch::Tensor()};
  }
};

class PactClip : public FakeQuantizer {
 public:
  explicit PactClip(const MethodParams& params) : groups_(params, {"tensor", "row"}) {
    params.check_keys({"granularity", "bits", "clip"});
    bits_ = static_cast<int>(params.integer("bits", 2, 8, 8));
    start_ = params.number("clip", 1e-6, 1e6, 2.5);
  }

  void initialize(const torch::Tensor& x) override {
    clip_ = learned(torch::tensor({-start_, start_}, x.options().requires_grad(false)));
  }
  torch::Tensor quantize(const torch::Tensor& x) override {
    require_initialized(clip_, "the clip of pact_clip");
    const torch::Tensor scale = codes_per_unit(x.detach());
    const torch::Tensor whole = torch::round(clipped(x.detach()) * scale);
    return ClipPair::apply(x, clip_, divide_or_zero(whole, scale).reshape_as(x));
  }

  std::vector<NamedTensor> parameters() const override { return {{"clip", clip_}}; }
  DeployableForm deployable() const override {
    return {groups_.weight_spec(bits_, true), std::to_string(bits_) + " bits, " + groups_.text()};
  }
  WeightCodes codes(const torch::Tensor& weight) const override {
    const torch::Tensor scale = codes_per_unit(weight.detach());
    const torch::Tensor whole = torch::round(clipped(weight.detach()) * scale);
    return symmetric_codes(whole, divide_or_zero(torch::ones_like(scale), scale));
  }

 private:
  torch::Tensor clipped(const torch::Tensor& x) const {
    const torch::NoGradGuard guard;
    return torch::clamp(groups_.split(x), clip_[0], clip_[1]);
  }
  torch::Tensor codes_per_unit(const torch::Tensor& x) const {
    const torch::NoGradGuard guard;
    const torch::Tensor largest = clipped(x).abs().amax(1, true);
    return divide_or_zero(torch::full_like(largest, largest_code(bits_)), largest);
  }

  StepGroups groups_;
  int bits_;
  double start_;
  torch::Tensor clip_;  ///< the lower, the upper
};

}  // namespace

extern const QuantizerFactory k_pact_clip;
const QuantizerFactory k_pact_clip = {
    "pact_clip", true, false, [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
      return std::make_unique<PactClip>(params);
    }};

}  // namespace quell::train
