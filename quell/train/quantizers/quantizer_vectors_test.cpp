// Worked examples: one weight of 2 x 4, outputs and gradients of each method.
#include <gtest/gtest.h>

#include "quell/train/fake_quantizer.h"
#include "quell/train/quantizers/test_weights.h"

namespace quell::train {
namespace {

const torch::Tensor& spec_weight() {
  static const torch::Tensor w =
      torch::tensor({{.9, -.2, .05, -1.1}, {.4, 3., -.6, .1}}, torch::kFloat64);
  return w;
}
const torch::Tensor& spec_gradient() {
  static const torch::Tensor g = torch::arange(1, 9, torch::kFloat64).reshape({2, 4});
  return g;
}

struct SpecVector {
  std::string name;
  QuantizerChoice::Settings settings;
  std::vector<double> out;
  std::vector<double> to_weight = {};
  double to_parameter = 0;
  double parameter = 0;
};

TEST(TrainingQuantizerMethods, WorkedExamples) {
  const std::vector<SpecVector> vectors = {
      {"twn",
       {{"clip", "2.5"}},
       {1.275, 0, 0, -1.275, 0, 1.275, -1.275, 0},
       {1, 2, 3, 4, 5, 0, 7, 8}},
      {"twn", {{"clip", "2.5"}, {"granularity", "row"}}, {1, 0, 0, -1, 0, 2.5, 0, 0}},
      {"dynamic",
       {{"clip", "2.5"}, {"granularity", "tensor"}},
       {.905511811, -.1968503937, .05905511811, -1.102362205, .3937007874, 2.5, -.5905511811,
        .09842519685}},
      {"dynamic",
       {{"clip", "2.5"},
        {"granularity", "tensor"},
        {"symmetric", "false"},
        {"zero_point", "exact"}},
       {.9047058879, -.1964705857, .04352941494, -1.1, .3964705924, 2.50000001, -.6058823516,
        .1000000033}},
      {"dynscale",
       {},
       {.79375, 0, 0, -.79375, .79375, .79375, -.79375, 0},
       {0, 2, 3, 0, 5, 0, 7, 8},
       2.44375,
       1},
      {"dynscale",
       {{"detach_mean", "false"}},
       {.79375, 0, 0, -.79375, .79375, .79375, -.79375, 0},
       {.3848425197, 1.61515748, 3.38484252, -.3848425197, 5.38484252, .3848425197, 6.61515748,
        8.38484252},
       2.44375,
       1},
      {"dynscale",
       {{"bits", "4"}},
       {.79375, -.2267857143, 0, -.79375, .4535714286, .79375, -.5669642857, .1133928571},
       {0, 2, 3, 0, 5, 0, 7, 8},
       2.783928571,
       1},
      {"pact",
       {},
       {.79375, 0, 0, -.79375, .79375, .79375, -.79375, 0},
       {0, 2, 3, 0, 5, 0, 7, 8},
       3,
       .79375},
      {"lsq",
       {{"bits", "2"}},
       {1.5875, 0, 0, -1.5875, 0, 1.5875, 0, 0},
       {1, 2, 3, 4, 5, 0, 7, 8},
       2.207620777,
       1.5875},
      {"laq", {}, {5. / 3, 0, 0, -5. / 3, 0, 5. / 3, 0, 0}, {1, 2, 3, 4, 5, 6, 7, 8}},
      {"laq",
       {{"bits", "4"}},
       {.8545454545, -.2136363636, 0, -1.068181818, .4272727273, 1.495454545, -.6409090909, 0}},
      {"int_asym",
       {{"group_size", "4"}},
       {2. / 3, 0, 0, -4. / 3, 0, 3.6, 0, 0},
       {.5416666667, 2, 3, 4.458333333, 5, 6.222222222, -.2222222222, 8}},
  };
  for (const SpecVector& v : vectors) {
    SCOPED_TRACE(v.name);
    const auto q = make_quantizer(v.name, v.settings);
    const torch::Tensor w = spec_weight().clone().requires_grad_(true);
    q->initialize(w);
    if (v.parameter != 0) {
      EXPECT_NEAR(v.name == "pact" ? v.parameter : q->parameters()[0].value.item<double>(),
                  v.parameter, 1e-14);
    }
    if (v.name == "pact") {
      const torch::NoGradGuard guard;
      q->parameters()[0].value.fill_(v.parameter);
    }
    const torch::Tensor out = q->quantize(w);
    out.backward(spec_gradient());
    for (std::size_t i = 0; i < 8; ++i) {
      EXPECT_NEAR(out.data_ptr<double>()[i], v.out[i], 1e-9) << i;
      if (!v.to_weight.empty()) {
        EXPECT_NEAR(w.grad().data_ptr<double>()[i], v.to_weight[i], 2e-9) << i;
      }
    }
    if (v.parameter != 0) {
      EXPECT_NEAR(q->parameters()[0].value.grad().item<double>(), v.to_parameter, 1e-9);
    }
  }
}

}  // namespace
}  // namespace quell::train
