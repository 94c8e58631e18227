// Activations with one step for the whole tensor that does not depend on the batch: learned as in
// LSQ and LSQ+ (Bhalgat et al., 2020), or the running range of what was seen.
#include <cmath>

#include "quell/train/quantizer_math.h"

namespace quell::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

/// (clamp(round(x / step) + zero) - zero) * step with the zero point rounded. Gradients of step and
/// zero point times `factor`.
class StepAndOffset : public torch::autograd::Function<StepAndOffset> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x,
                               const torch::Tensor& step, const torch::Tensor& zero, double low,
                               double high) {
    const torch::Tensor z = torch::round(zero).clamp(low, high);
    ctx->save_for_backward({x, step, z});
    ctx->saved_data["low"] = low;
    ctx->saved_data["high"] = high;
    torch::Tensor codes = x / step;
    codes.round_().add_(z).clamp_(low, high);
    return codes.sub_(z).mul_(step);
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor& step = saved[1];
    const torch::Tensor& z = saved[2];
    const double low = ctx->saved_data["low"].toDouble();
    const double high = ctx->saved_data["high"].toDouble();
    const torch::Tensor& g = gradients[0];
    const torch::Tensor v = saved[0] / step;

    // What decides is the quotient before it is rounded. Clipped ones are the outermost codes.
    torch::Tensor by_step = torch::clamp(v, low - z, high - z);
    const torch::Tensor inside = by_step == v;
    by_step.round_().sub_(v * inside);
    const double factor = 1 / std::sqrt(static_cast<double>(v.numel()) * high);
    const torch::Tensor to_step = factor * by_step.mul_(g).sum();
    const torch::Tensor to_x = g * inside;
    const torch::Tensor to_zero = -factor * (g.sum() - to_x.sum()) * step;
    return {to_x, to_step, to_zero, torch::Tensor(), torch::Tensor()};
  }
};

class StaticStep : public FakeQuantizer {
 public:
  explicit StaticStep(const MethodParams& params) {
    params.check_keys({"bits", "symmetric", "source", "momentum"});
    bits_ = static_cast<int>(params.integer("bits", 2, 8, 8));
    symmetric_ = params.flag("symmetric", true);
    learned_ = params.choice("source", {"learned", "observed"}, "learned") == "learned";
    momentum_ = params.number("momentum", 0, 1, 0.99);
    spec_.num_bits = bits_;
    spec_.symmetric = symmetric_;
  }

  void initialize(const torch::Tensor& x) override {
    const torch::NoGradGuard guard;
    range_ = range_of(x);
    set_from_range();
  }
  void begin_step(const TrainingStep& step) override {
    observing_ = !learned_ && step.training && !step.frozen;
    frozen_ = !learned_ || step.frozen;
  }
  torch::Tensor quantize(const torch::Tensor& x) override {
    require_initialized(step_, "the step of static_step");
    if (observing_) {
      const torch::NoGradGuard guard;
      range_.copy_(momentum_ * range_ + (1 - momentum_) * range_of(x));
      set_from_range();
    }
    require_positive(step_, "the step of static_step");
    const torch::Tensor step = frozen_ ? step_.detach() : step_;
    const torch::Tensor zero = frozen_ || symmetric_ ? zero_.detach() : zero_;
    return StepAndOffset::apply(x, step, zero, static_cast<double>(spec_.min_code()),
                                static_cast<double>(spec_.max_code()));
  }

  std::vector<NamedTensor> parameters() const override {
    if (!learned_) return {};
    if (symmetric_) return {{"step", step_}};
    return {{"step", step_}, {"zero_point", zero_}};
  }
  std::vector<NamedTensor> state() const override {
    if (learned_) return {};
    return {{"range", range_}, {"step", step_}, {"zero_point", zero_}};
  }
  std::optional<StepAndZero> static_step() const override {
    require_initialized(step_, "the step of static_step");
    const double zero =
        torch::round(zero_).clamp(spec_.min_code(), spec_.max_code()).item<double>();
    return StepAndZero{step_.item<float>(), static_cast<std::int32_t>(zero)};
  }
  DeployableForm deployable() const override {
    return {spec_, "int" + std::to_string(bits_) + (symmetric_ ? "" : ", asymmetric") +
                       ", one static step"};
  }

 private:
  torch::Tensor range_of(const torch::Tensor& x) const {
    return torch::stack({x.detach().amin().clamp_max(0), x.detach().amax().clamp_min(0)});
  }
  void set_from_range() {
    const double codes = spec_.max_code();
    const torch::Tensor width =
        symmetric_ ? range_.abs().amax() : torch::Tensor(range_[1] - range_[0]);
    const torch::Tensor step = (width / codes).clamp_min(0x1.0p-23);
    const torch::Tensor zero = symmetric_ ? torch::zeros_like(step) : -range_[0] / step;
    if (!step_.defined()) {
      step_ = step.clone().requires_grad_(learned_);
      zero_ = zero.clone().requires_grad_(learned_ && !symmetric_);
      return;
    }
    step_.copy_(step);
    zero_.copy_(zero);
  }

  int bits_;
  bool symmetric_;
  bool learned_;
  double momentum_;
  QuantSpec spec_;
  bool observing_ = false;
  bool frozen_ = false;
  torch::Tensor range_;  ///< smallest and largest value, 0 among them
  torch::Tensor step_, zero_;
};

}  // namespace

extern const QuantizerFactory k_static_step;
const QuantizerFactory k_static_step = {
    "static_step", false, true, [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
      return std::make_unique<StaticStep>(params);
    }};

}  // namespace quell::train
