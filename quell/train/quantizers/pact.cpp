// PACT for weights: the clip itself is learned (Choi et al., 2018; the baseline of QuantGPT, ACL
// 2022).
#include "quell/train/quantizer_math.h"
#include "quell/train/step_groups.h"

namespace quell::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

/// w [groups, elements], alpha [groups, 1]. Only what is clipped moves alpha.
class LearnedClip : public torch::autograd::Function<LearnedClip> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& w,
                               const torch::Tensor& alpha, double n) {
    ctx->save_for_backward({w, alpha});
    return alpha * (torch::round(torch::clamp(w, -alpha, alpha) / alpha * n) / n);
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor& w = saved[0];
    const torch::Tensor& g = gradients[0];
    const torch::Tensor inside = w.abs() < saved[1];
    const torch::Tensor to_alpha = (g * w.sign()).masked_fill(inside, 0).sum(1, true);
    return {g * inside, to_alpha, torch::Tensor()};
  }
};

class Pact : public FakeQuantizer {
 public:
  explicit Pact(const MethodParams& params) : groups_(params, {"tensor", "row", "group"}) {
    params.check_keys({"granularity", "group_size", "bits", "start"});
    bits_ = static_cast<int>(params.integer("bits", 2, 8, 2));
    start_ = "number";
    for (const char* rule : {"max", "mean"})
      if (params.has("start") && params.values().at("start") == rule) start_ = rule;
    if (start_ == "number") alpha_start_ = params.number("start", 1e-6, 1e6, 2.5);
  }

  void initialize(const torch::Tensor& x) override {
    const torch::Tensor magnitude = groups_.split(x.detach()).abs();
    torch::Tensor alpha = magnitude.mean(1, true);
    if (start_ == "max") alpha = magnitude.amax(1, true);
    if (start_ == "number") alpha = torch::full_like(alpha, alpha_start_);
    alpha_ = learned(alpha.clamp_min(1e-8));
  }
  torch::Tensor quantize(const torch::Tensor& x) override {
    require_initialized(alpha_, "the clip of pact");
    require_positive(alpha_, "the clip of pact");
    return LearnedClip::apply(groups_.split(x), alpha_, largest_code(bits_)).reshape_as(x);
  }

  std::vector<NamedTensor> parameters() const override { return {{"alpha", alpha_}}; }
  DeployableForm deployable() const override {
    return {groups_.weight_spec(bits_, true), std::to_string(bits_) + " bits, " + groups_.text()};
  }
  WeightCodes codes(const torch::Tensor& weight) const override {
    const torch::Tensor alpha = alpha_.detach();
    const double n = largest_code(bits_);
    const torch::Tensor w = torch::clamp(groups_.split(weight.detach()), -alpha, alpha);
    return symmetric_codes(torch::round(w / alpha * n), alpha / n);
  }

 private:
  StepGroups groups_;
  int bits_;
  std::string start_;  ///< max, mean or number
  double alpha_start_ = 0;
  torch::Tensor alpha_;
};

}  // namespace

extern const QuantizerFactory k_pact;
const QuantizerFactory k_pact = {"pact", true, false,
                                 [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
                                   return std::make_unique<Pact>(params);
                                 }};

}  // namespace quell::train
