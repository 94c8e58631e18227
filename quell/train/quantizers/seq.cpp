// SEQ, stretched elastic quantization (ParetoQ: Liu et al., 2025): below 3 bits, levels that divide
// the range evenly; even numbers of them have no 0.
#include <cmath>

#include "quell/train/quantizer_math.h"
#include "quell/train/step_groups.h"

namespace quell::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

/// Nothing beyond this part of the range, so that the outermost codes are never passed.
constexpr double kPart = 1 - 1e-2;
constexpr double kLeastAlpha = 1e-5;

/// level = (round(u * half - shift) + shift) / half for u = w / alpha.
struct Levels {
  double half;
  double shift;
  double outermost;     ///< what a clipped weight gives alpha's gradient
  double factor_codes;  ///< the number of codes in the gradient's 1 / sqrt(weights * codes)
};

torch::Tensor level_of(const torch::Tensor& u, const Levels& l) {
  return (torch::round(u.clamp(-kPart, kPart) * l.half - l.shift) + l.shift) / l.half;
}

class Stretched : public torch::autograd::Function<Stretched> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& w,
                               const torch::Tensor& alpha, const Levels& levels, double factor) {
    const torch::Tensor scale = alpha.clamp_min(kLeastAlpha);
    ctx->save_for_backward({w, scale});
    ctx->saved_data["half"] = levels.half;
    ctx->saved_data["shift"] = levels.shift;
    ctx->saved_data["outermost"] = levels.outermost;
    ctx->saved_data["factor"] = factor;
    return level_of(w / scale, levels) * scale;
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor& g = gradients[0];
    const torch::Tensor u = saved[0] / saved[1];
    const Levels levels{ctx->saved_data["half"].toDouble(), ctx->saved_data["shift"].toDouble(),
                        ctx->saved_data["outermost"].toDouble(), 0};

    const torch::Tensor below = u < -kPart;
    const torch::Tensor above = u > kPart;
    torch::Tensor by_alpha = level_of(u, levels) - u;
    by_alpha = by_alpha.masked_fill(below, -levels.outermost).masked_fill(above, levels.outermost);
    const torch::Tensor to_alpha =
        ctx->saved_data["factor"].toDouble() * (g * by_alpha).sum(1, true);
    return {g.masked_fill(torch::logical_or(below, above), 0), to_alpha, torch::Tensor(),
            torch::Tensor()};
  }
};

class Seq : public FakeQuantizer {
 public:
  explicit Seq(const MethodParams& params) : groups_(params, {"row", "tensor", "group"}) {
    params.check_keys({"granularity", "group_size", "bits", "clipped_gradient"});
    const std::string bits = params.choice("bits", {"1.58", "2", "3", "4"}, "1.58");
    ternary_ = bits == "1.58";
    bits_ = ternary_ ? 2 : std::stoi(bits);
    levels_.half = ternary_ ? 1.5 : std::exp2(bits_ - 1);
    levels_.shift = ternary_ ? 0 : 0.5;
    levels_.factor_codes = ternary_ ? 1 : largest_code(bits_);

    // Ternary, the authors' code takes 1 where the outermost level is 2/3.
    const bool published =
        params.choice("clipped_gradient", {"published", "exact"}, "published") == "published";
    const double level = ternary_ ? 1 / levels_.half : (levels_.half - 0.5) / levels_.half;
    levels_.outermost = ternary_ && published ? 1 : level;
  }

  void initialize(const torch::Tensor& x) override {
    alpha_ = learned(groups_.split(x.detach()).abs().amax(1, true).clamp_min(kLeastAlpha));
  }
  torch::Tensor quantize(const torch::Tensor& x) override {
    require_initialized(alpha_, "alpha of seq");
    const double count = static_cast<double>(x.numel());
    const double factor = 1 / std::sqrt(count * levels_.factor_codes);
    return Stretched::apply(groups_.split(x), alpha_, levels_, factor).reshape_as(x);
  }

  std::vector<NamedTensor> parameters() const override { return {{"alpha", alpha_}}; }
  DeployableForm deployable() const override {
    if (ternary_)
      return {groups_.weight_spec(2, true), "ternary, " + groups_.text() + ": 1.58 bits a weight"};
    return {groups_.weight_spec(bits_ + 1, true),
            std::to_string(1 << bits_) + " odd codes (" + std::to_string(bits_) +
                " bits, held in " + std::to_string(bits_ + 1) + "), " + groups_.text()};
  }
  WeightCodes codes(const torch::Tensor& weight) const override {
    const torch::NoGradGuard guard;
    const torch::Tensor scale = alpha_.clamp_min(kLeastAlpha);
    const torch::Tensor level = level_of(groups_.split(weight) / scale, levels_);
    const double codes_of_one = ternary_ ? levels_.half : 2 * levels_.half;
    return symmetric_codes(torch::round(level * codes_of_one), scale / codes_of_one);
  }

 private:
  StepGroups groups_;
  bool ternary_;
  int bits_;
  Levels levels_{};
  torch::Tensor alpha_;
};

}  // namespace

extern const QuantizerFactory k_seq;
const QuantizerFactory k_seq = {"seq", true, false,
                                [](const MethodParams& params) -> std::unique_ptr<FakeQuantizer> {
                                  return std::make_unique<Seq>(params);
                                }};

}  // namespace quell::train
