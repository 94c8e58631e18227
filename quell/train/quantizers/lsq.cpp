// LSQ: the step is learned (Esser et al., ICLR 2020), symmetric or with the smallest value as
// offset (as BinaryBERT has it).
#include <cmath>

#include "quell/train/quantizer_math.h"
#include "quell/train/step_groups.h"

namespace quell::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

struct CodeRangeOf {
  double low, high;
};
CodeRangeOf codes_of(int bits, bool symmetric) {
  if (!symmetric) return {0, std::exp2(bits) - 1};
  return {-std::exp2(bits - 1), std::exp2(bits - 1) - 1};
}

/// x [groups, elements] in steps [groups, 1]. The step's gradient is divided by sqrt(elements *
/// high).
class LearnedStep : public torch::autograd::Function<LearnedStep> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x,
                               const torch::Tensor& step, double low, double high) {
    ctx->save_for_backward({x, step});
    ctx->saved_data["low"] = low;
    ctx->saved_data["high"] = high;
    return torch::round(x / step).clamp(low, high) * step;
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const double low = ctx->saved_data["low"].toDouble();
    const double high = ctx->saved_data["high"].toDouble();
    const torch::Tensor& g = gradients[0];
    const torch::Tensor v = saved[0] / saved[1];

    // What decides is the quotient before it is rounded. Clipped ones are the outermost codes.
    torch::Tensor by_step = v.clamp(low, high);
    const torch::Tensor inside = by_step == v;
    by_step.round_().sub_(v * inside);
    const double factor = 1 / std::sqrt(static_cast<double>(v.size(1)) * high);
    const torch::Tensor to_step = factor * by_step.mul_(g).sum(1, true);
    return {g * inside, to_step, torch::Tensor(), torch::Tensor()};
  }
};

class Lsq : public FakeQuantizer {
 public:
  explicit Lsq(const MethodParams& params) : groups_(params, {"tensor", "row", "group"}) {
    params.check_keys({"granularity", "group_size", "bits", "symmetric"});
    bits_ = static_cast<int>(params.integer("bits", 2, 8, 4));
    symmetric_ = params.flag("symmetric", true);
    range_ = codes_of(bits_, symmetric_);
  }

  /// As the paper starts: 2 mean|x| / sqrt(high); twice that above an offset (the mean is that of
  /// the unshifted values).
  void initialize(const torch::Tensor& x) override {
    const torch::Tensor mean = groups_.split(x.detach()).abs().mean(1, true);
    const double factor = symmetric_ ? 2 : 4;
    step_ = learned((factor * mean / std::sqrt(range_.high)).clamp_min(1e-8));
  }
  torch::Tensor quantize(const torch::Tensor& x) override {
    require_initialized(step_, "the step of lsq");
    require_positive(step_, "the step of lsq");
    torch::Tensor w = groups_.split(x);
    if (symmetric_) return LearnedStep::apply(w, step_, range_.low, range_.high).reshape_as(x);

    const torch::Tensor offset = w.detach().amin(1, true);
    w = LearnedStep::apply(w - offset, step_, range_.low, range_.high) + offset;
    return w.reshape_as(x);
  }

  std::vector<NamedTensor> parameters() const override { return {{"step", step_}}; }
  DeployableForm deployable() const override {
    if (!symmetric_)
      return {std::nullopt, "none: the offset (the smallest value) is not a whole number of steps"};
    QuantSpec spec = groups_.weight_spec(bits_, true);
    spec.codes = CodeRange::kFull;
    return {spec, std::to_string(bits_) + " bits, all 2^bits codes, " + groups_.text()};
  }
  WeightCodes codes(const torch::Tensor& weight) const override {
    if (!symmetric_) return FakeQuantizer::codes(weight);
    const torch::Tensor v = groups_.split(weight.detach()) / step_.detach();
    return symmetric_codes(torch::round(v).clamp(range_.low, range_.high), step_);
  }

 private:
  StepGroups groups_;
  int bits_;
  bool symmetric_;
  CodeRangeOf range_;
  torch::Tensor step_;
};

}  // namespace

extern const QuantizerFactory k_lsq;
const QuantizerFactory k_lsq = {"lsq", true, false,
                                [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
                                  return std::make_unique<Lsq>(params);
                                }};

}  // namespace quell::train
