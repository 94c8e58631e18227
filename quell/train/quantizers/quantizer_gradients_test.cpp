// Gradients of learned parameters against finite differences of the function with its rounding
// errors held fixed, computed in plain loops; what torch's own fake quantization has
// otherwise.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "quell/train/fake_quantizer.h"
#include "quell/train/quantizers/test_weights.h"

namespace quell::train {
namespace {

/// Sum of g times the output, one element of the output for each (w, g).
using Element = std::function<double(double w, double parameter)>;

double central_difference(const torch::Tensor& w, const torch::Tensor& g, double at,
                          const std::function<Element(double at)>& frozen) {
  constexpr double kStep = 1e-6;
  const Element element = frozen(at);
  double difference = 0;
  for (std::int64_t i = 0; i < w.numel(); ++i) {
    const double x = w.data_ptr<double>()[i];
    const double change = element(x, at + kStep) - element(x, at - kStep);
    difference += g.data_ptr<double>()[i] * change / (2 * kStep);
  }
  return difference;
}

/// The gradient that `quantizer` gives its parameter when that is `value`.
double gradient_of(FakeQuantizer& quantizer, const torch::Tensor& w, const torch::Tensor& g,
                   double value, std::size_t parameter = 0) {
  quantizer.initialize(w);
  const torch::Tensor p = quantizer.parameters()[parameter].value;
  {
    const torch::NoGradGuard guard;
    p.fill_(value);
  }
  quantizer.quantize(w).backward(g);
  return p.grad().item<double>();
}

struct Inputs {
  torch::Tensor w = normal_weights({6, 8}, 51);
  torch::Tensor g = normal_weights({6, 8}, 53);
  double mean = w.abs().mean().item<double>();
};

TEST(TrainingQuantizerGradients, StepOfLsq) {
  const Inputs in;
  for (const int bits : {2, 3, 4, 8}) {
    const double low = -std::exp2(bits - 1);
    const double high = std::exp2(bits - 1) - 1;
    const double step = 2.1 / high;
    const auto q = make_quantizer("lsq", {{"bits", std::to_string(bits)}});
    const double want = central_difference(in.w, in.g, step, [=](double at) {
      return [=](double x, double s) {
        if (x / at < low) return low * s;
        if (x / at > high) return high * s;
        const double error = std::nearbyint(x / at) - x / at;
        return s * (x / s + error);
      };
    });
    const double factor = 1 / std::sqrt(48 * high);
    EXPECT_NEAR(gradient_of(*q, in.w, in.g, step), factor * want, 1e-7) << bits;
  }
}

TEST(TrainingQuantizerGradients, GammaOfDynScaleAndAlphaOfPact) {
  const Inputs in;
  for (const int bits : {2, 3, 4, 8}) {
    const double n = std::exp2(bits - 1) - 1;
    const std::string text = std::to_string(bits);
    const double gamma = 1.3;
    const auto dynscale = make_quantizer("dynscale", {{"bits", text}});
    const double of_gamma = central_difference(in.w, in.g, gamma, [&](double at) {
      return [=, mean = in.mean](double x, double c) {
        const double alpha = c * mean;
        if (std::abs(x) > at * mean) return std::copysign(alpha, x);
        const double u = x / (at * mean);
        const double error = std::nearbyint(u * n) / n - u;
        return alpha * (x / alpha + error);
      };
    });
    EXPECT_NEAR(gradient_of(*dynscale, in.w, in.g, gamma), of_gamma, 1e-7) << bits;

    // PACT: only what is clipped moves alpha.
    const auto pact = make_quantizer("pact", {{"bits", text}});
    const double of_alpha = central_difference(in.w, in.g, 1.1, [](double) {
      return [](double x, double alpha) { return std::clamp(x, -alpha, alpha); };
    });
    EXPECT_NEAR(gradient_of(*pact, in.w, in.g, 1.1), of_alpha, 1e-7) << bits;
  }
}

/// A weight moves the mean, and with it every other output.
TEST(TrainingQuantizerGradients, WeightsOfDynScaleThroughTheMean) {
  const Inputs in;
  const double gamma = 1.3;
  const auto total = [&](const std::vector<double>& w) {
    double mean = 0;
    for (const double x : w) mean += std::abs(x) / static_cast<double>(w.size());
    double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double start = in.w.data_ptr<double>()[i];
      const double u = start / (gamma * in.mean);
      double out = std::copysign(gamma * mean, start);
      if (std::abs(u) < 1) out = w[i] + gamma * mean * (std::nearbyint(u * 7) / 7 - u);
      sum += in.g.data_ptr<double>()[i] * out;
    }
    return sum;
  };
  const auto q = make_quantizer("dynscale", {{"bits", "4"}, {"detach_mean", "false"}});
  torch::Tensor w = in.w.clone().requires_grad_(true);
  gradient_of(*q, w, in.g, gamma);
  const std::vector<double> start(w.data_ptr<double>(), w.data_ptr<double>() + 48);
  for (std::size_t i = 0; i < 48; i += 5) {
    std::vector<double> up = start;
    std::vector<double> down = start;
    up[i] += 1e-6;
    down[i] -= 1e-6;
    EXPECT_NEAR(w.grad().data_ptr<double>()[i], (total(up) - total(down)) / 2e-6, 1e-7);
  }
}

TEST(TrainingQuantizerGradients, StationaryWhereAllWeightsAreLevels) {
  const torch::Tensor w = torch::tensor({{-1.5, 0.0, 1.5, 1.5}}, torch::kFloat64);
  const auto q = make_quantizer("dynscale", {});
  EXPECT_EQ(gradient_of(*q, w, normal_weights({1, 4}, 3), 1.5 / 1.125), 0);
}

TEST(TrainingQuantizerGradients, ClipsOfPactClip) {
  const Inputs in;
  const auto q = make_quantizer("pact_clip", {});
  q->initialize(in.w);
  const torch::Tensor clip = q->parameters()[0].value;
  {
    const torch::NoGradGuard guard;
    clip.copy_(torch::tensor({-0.7, 1.1}, torch::kFloat64));
  }
  q->quantize(in.w).backward(in.g);
  for (const int side : {0, 1}) {
    const double at = side == 0 ? -0.7 : 1.1;
    const double want = central_difference(in.w, in.g, at, [=](double) {
      return [=](double x, double c) { return side == 0 ? std::max(x, c) : std::min(x, c); };
    });
    EXPECT_NEAR(clip.grad()[side].item<double>(), want, 1e-7);
  }
}

TEST(TrainingQuantizerGradients, AlphaOfSeq) {
  const Inputs in;
  for (const auto& [bits, half, shift, codes] :
       {std::tuple{"1.58", 1.5, 0.0, 1.0}, std::tuple{"2", 2.0, 0.5, 1.0},
        std::tuple{"3", 4.0, 0.5, 3.0}, std::tuple{"4", 8.0, 0.5, 7.0}}) {
    const QuantizerChoice::Settings settings = {{"bits", bits}, {"granularity", "tensor"}};
    const auto exact = [&] {
      QuantizerChoice::Settings s = settings;
      s["clipped_gradient"] = "exact";
      return make_quantizer("seq", s);
    }();
    const double alpha = 1.4;
    const double want =
        central_difference(in.w, in.g, alpha, [half = half, shift = shift](double at) {
          return [=](double x, double a) {
            const double u = x / at;
            const double clipped = std::clamp(u, -0.99, 0.99);
            const double level = (std::nearbyint(clipped * half - shift) + shift) / half;
            return clipped == u ? a * (x / a + level - u) : a * level;
          };
        });
    const double factor = 1 / std::sqrt(48 * codes);
    EXPECT_NEAR(gradient_of(*exact, in.w, in.g, alpha), factor * want, 1e-7) << bits;

    // The authors' code: clipped ternary weights count 1 instead of 2/3.
    const torch::Tensor clipped = (in.w.abs() > 0.99 * alpha).to(torch::kFloat64) * in.w.sign();
    const auto extra = (in.g * clipped).sum().item<double>() / 3;
    const double published = gradient_of(*make_quantizer("seq", settings), in.w, in.g, alpha);
    const bool ternary = half == 1.5;
    EXPECT_NEAR(published, factor * (ternary ? want + extra : want), 1e-7) << bits;
    EXPECT_GT(std::abs(extra), 0.01);
  }
}

TEST(TrainingQuantizerGradients, StepAndZeroPointOfStaticSteps) {
  const Inputs in;
  const double step = 0.011;
  const double zero = 100.3;
  const auto gradients = [&] {
    const auto q = make_quantizer("static_step", {{"symmetric", "false"}});
    q->initialize(in.w);
    const std::vector<NamedTensor> p = q->parameters();
    {
      const torch::NoGradGuard guard;
      p[0].value.fill_(step);
      p[1].value.fill_(zero);
    }
    q->quantize(in.w).backward(in.g);
    return std::pair{p[0].value.grad().item<double>(), p[1].value.grad().item<double>()};
  }();
  const double factor = 1 / std::sqrt(48 * 255.0);
  const auto output = [=](double x, double s, double z, double at) {
    const double v = x / at;
    if (v + 100 < 0) return -z * s;
    if (v + 100 > 255) return (255 - z) * s;
    return s * (x / s + std::nearbyint(v) - v);
  };
  const double of_step = central_difference(in.w, in.g, step, [&](double at) {
    return [=](double x, double s) { return output(x, s, 100, at); };
  });
  const double of_zero = central_difference(in.w, in.g, 100, [&](double) {
    return [=](double x, double z) { return output(x, step, z, step); };
  });
  EXPECT_NEAR(gradients.first, factor * of_step, 1e-6);
  EXPECT_NEAR(gradients.second, factor * of_zero, 1e-7);
  EXPECT_NE(of_zero, 0);
}

/// One group of int_asym or nf3: what each weight becomes when weights move and rounding errors,
/// zero point and who is clipped stay.
class FrozenGroup {
 public:
  FrozenGroup(std::vector<double> start, const torch::Tensor& out, bool integers)
      : start_(std::move(start)), integers_(integers) {
    const auto [low, high] = range(start_);
    for (std::size_t i = 0; i < start_.size(); ++i) {
      const double scale = scale_of(i, low, high);
      const double level = out.data_ptr<double>()[i] / scale;
      const double zero = std::clamp(-std::nearbyint(low / scale), 0.0, 3.0);
      const double rounded = std::round(start_[i] / scale) + zero;
      clipped_.push_back(integers && (rounded < 0 || rounded > 3));
      levels_.push_back(level);
      errors_.push_back(level - start_[i] / scale);
    }
  }

  double total(const std::vector<double>& w, const torch::Tensor& g) const {
    const auto [low, high] = range(w);
    double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double scale = scale_of(i, low, high);
      const double level = clipped_[i] ? levels_[i] : w[i] / scale + errors_[i];
      sum += g.data_ptr<double>()[i] * level * scale;
    }
    return sum;
  }
  bool any_clipped() const {
    return std::find(clipped_.begin(), clipped_.end(), true) != clipped_.end();
  }

 private:
  static std::pair<double, double> range(const std::vector<double>& w) {
    const auto [low, high] = std::minmax_element(w.begin(), w.end());
    return {*low, *high};
  }
  double scale_of(std::size_t i, double low, double high) const {
    if (integers_) return (high - low) / 3;
    return start_[i] >= 0 ? high : -low;
  }

  std::vector<double> start_;
  bool integers_;
  std::vector<bool> clipped_;
  std::vector<double> levels_, errors_;
};

/// The largest and the smallest weight of a group carry what its scale gets.
TEST(TrainingQuantizerGradients, WeightsOfIntAsymAndNf3ThroughTheRange) {
  bool any_clipped = false;
  for (const std::uint64_t seed : {57, 58, 59, 60, 61, 62})
    for (const char* name : {"int_asym", "nf3"}) {
      // Groups far from 0 have weights beyond the codes.
      const double shift = seed % 2 == 0 ? 0 : 2.5;
      const torch::Tensor w = (normal_weights({1, 12}, seed) + shift).requires_grad_(true);
      const torch::Tensor g = normal_weights({1, 12}, seed + 100);
      const torch::Tensor out = make_quantizer(name, {{"granularity", "row"}})->quantize(w);
      out.backward(g);
      const std::vector<double> start(w.data_ptr<double>(), w.data_ptr<double>() + 12);
      const FrozenGroup frozen(start, out.detach(), name[0] == 'i');
      any_clipped |= frozen.any_clipped();
      for (std::size_t i = 0; i < 12; ++i) {
        std::vector<double> up = start;
        std::vector<double> down = start;
        up[i] += 1e-6;
        down[i] -= 1e-6;
        const double want = (frozen.total(up, g) - frozen.total(down, g)) / 2e-6;
        EXPECT_NEAR(w.grad().data_ptr<double>()[i], want, 1e-7) << name << " " << seed << " " << i;
      }
    }
  EXPECT_TRUE(any_clipped);
}

/// torch's learnable fake quantization asks the rounded code whether a value is inside: a weight of
/// -1.2 steps with codes from -1 then has a gradient, and pulls the wrong way at the step.
TEST(TrainingQuantizerGradients, TorchsOwnFakeQuantizationIsAnotherFunction) {
  const torch::Tensor w = torch::tensor({{-2.4, 0.3}}, torch::kFloat64).requires_grad_(true);
  const auto q = make_quantizer("lsq", {{"bits", "2"}});
  const double of_step = gradient_of(*q, w, torch::tensor({{7.0, 0.0}}, torch::kFloat64), 1.0);
  EXPECT_EQ(w.grad()[0][0].item<double>(), 0);
  EXPECT_NEAR(of_step, -2.0 * 7 / std::sqrt(2.0), 1e-12);

  const torch::Tensor x = torch::tensor({-2.4F, 0.3F}).requires_grad_(true);
  const torch::Tensor scale = torch::tensor({1.0F}).requires_grad_(true);
  const torch::Tensor zero = torch::tensor({0.0F}).requires_grad_(true);
  torch::_fake_quantize_learnable_per_tensor_affine(x, scale, zero, -2, 1, 1.0)
      .backward(torch::tensor({7.0F, 0.0F}));
  EXPECT_EQ(x.grad()[0].item<float>(), 7);
}

}  // namespace
}  // namespace quell::train
