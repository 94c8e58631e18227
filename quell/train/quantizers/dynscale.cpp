// Module-wise dynamic scaling: the clip is a learned multiple of the mean magnitude (QuantGPT, ACL
// 2022; "Pact+" of TSLD, NeurIPS 2023).
#include "quell/train/quantizer_math.h"
#include "quell/train/step_groups.h"

namespace quell::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

/// Of u in [-1, 1].
torch::Tensor level_of_part(const torch::Tensor& u, double n) { return (u * n).round_().div_(n); }

/// Levels in [-1, 1] of w between -alpha and alpha; 0 in a row of zeros.
torch::Tensor levels_of(const torch::Tensor& w, const torch::Tensor& alpha, double n) {
  return level_of_part(divide_or_zero(torch::clamp(w, -alpha, alpha), alpha), n);
}

/// w [groups, elements], gamma [groups, 1]. At |w| = alpha a weight counts as inside.
class DynamicScale : public torch::autograd::Function<DynamicScale> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& w,
                               const torch::Tensor& gamma, double n, bool detach_mean) {
    ctx->save_for_backward({w, gamma});
    ctx->saved_data["n"] = n;
    ctx->saved_data["detach_mean"] = detach_mean;
    const torch::Tensor alpha = gamma * w.abs().mean(1, true);
    return alpha * levels_of(w, alpha, n);
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor& w = saved[0];
    const torch::Tensor& gamma = saved[1];
    const torch::Tensor& g = gradients[0];
    const torch::Tensor mean = w.abs().mean(1, true);
    const torch::Tensor alpha = gamma * mean;
    const double n = ctx->saved_data["n"].toDouble();

    // Inside, rounding errors pull at the clip; outside, what is cut off does: there the level is
    // the sign.
    const torch::Tensor clipped = torch::clamp(w, -alpha, alpha);
    const torch::Tensor inside = clipped == w;
    torch::Tensor by_alpha = level_of_part(divide_or_zero(clipped, alpha), n);
    by_alpha.sub_(divide_or_zero(w, alpha).mul_(inside));
    const torch::Tensor to_alpha = by_alpha.mul_(g).sum(1, true);

    torch::Tensor to_w = g * inside;
    if (!ctx->saved_data["detach_mean"].toBool())
      to_w = to_w + gamma * to_alpha / static_cast<double>(w.size(1)) * w.sign();
    return {to_w, mean * to_alpha, torch::Tensor(), torch::Tensor()};
  }
};

class DynScale : public FakeQuantizer {
 public:
  explicit DynScale(const MethodParams& params) : groups_(params, {"tensor", "row", "group"}) {
    params.check_keys({"granularity", "group_size", "bits", "detach_mean", "start"});
    bits_ = static_cast<int>(params.integer("bits", 2, 8, 2));
    detach_mean_ = params.flag("detach_mean", true);
    least_error_ = params.has("start") && params.values().at("start") == "least_error";
    if (!least_error_) start_ = params.number("start", 1e-3, 1e3, 1);
  }

  void initialize(const torch::Tensor& x) override {
    const torch::NoGradGuard guard;
    const torch::Tensor w = groups_.split(x.detach());
    const torch::Tensor mean = w.abs().mean(1, true);
    torch::Tensor gamma = torch::full_like(mean, start_);
    if (least_error_) {
      const torch::Tensor alpha = least_error_scale(w, [&](const torch::Tensor& scale) {
        return scale * levels_of(w, scale, largest_code(bits_));
      });
      gamma = torch::where(mean > 0, divide_or_zero(alpha, mean), gamma);
    }
    gamma_ = learned(gamma);
  }
  torch::Tensor quantize(const torch::Tensor& x) override {
    require_initialized(gamma_, "gamma of dynscale");
    require_positive(gamma_, "gamma of dynscale");
    return DynamicScale::apply(groups_.split(x), gamma_, largest_code(bits_), detach_mean_)
        .reshape_as(x);
  }

  std::vector<NamedTensor> parameters() const override { return {{"gamma", gamma_}}; }
  DeployableForm deployable() const override {
    const std::string size = bits_ == 2 ? "ternary" : std::to_string(bits_) + " bits";
    return {groups_.weight_spec(bits_, true), size + ", " + groups_.text()};
  }
  WeightCodes codes(const torch::Tensor& weight) const override {
    const torch::NoGradGuard guard;
    const torch::Tensor w = groups_.split(weight);
    const torch::Tensor alpha = gamma_ * w.abs().mean(1, true);
    const double n = largest_code(bits_);
    return symmetric_codes(torch::round(levels_of(w, alpha, n) * n), alpha / n);
  }

 private:
  StepGroups groups_;
  int bits_;
  bool detach_mean_;
  bool least_error_;
  double start_ = 1;
  torch::Tensor gamma_;
};

}  // namespace

extern const QuantizerFactory k_dynscale;
const QuantizerFactory k_dynscale = {
    "dynscale", true, false, [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
      return std::make_unique<DynScale>(params);
    }};

}  // namespace quell::train
