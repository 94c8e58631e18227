// Optimizers against recorded runs and against torch's own, and what a checkpoint keeps of them.
#include "quell/train/optimizers/optimizer.h"

#include <cmath>

#include "quell/base/error.h"
#include "quell/train/optimizers/schedule.h"
#include "tests/train/golden_run.h"

namespace quell::train {
namespace {

/// Steps of a toy problem: gradients that change from step to step.
torch::Tensor gradient_at(const torch::Tensor& x, int step) {
  return (x * std::cos(0.7 * step) + 0.3 * std::sin(1.3 * step)).detach();
}

Tensors bert_adam(GoldenRun& run) {
  const Json decay = run.setting("weight_decay");
  std::vector<TrainedParameter> parameters;
  for (const auto& [name, value] : decay.items())
    parameters.push_back({name, leaf(run.input(name)), value.get<double>()});
  BertAdam optimizer(parameters, {run.number("b1"), run.number("b2"), run.number("eps")});
  const Schedule schedule{Decay::kLinear, run.number("warmup")};
  const double rate = run.number("lr"), largest = run.number("max_grad_norm");
  const std::int64_t total = run.integer("t_total");

  Tensors out;
  std::vector<double> multipliers;
  for (std::int64_t step = 0; step < run.integer("steps"); ++step) {
    for (TrainedParameter& p : parameters)
      p.value.mutable_grad() = run.input("grads_" + p.name)[step].clone();
    clip_gradients(parameters, ClipNorm::kEachTensor, largest);
    multipliers.push_back(schedule.factor(step, total));
    optimizer.step(rate * multipliers.back());
    for (const TrainedParameter& p : parameters)
      out[p.name + ".after" + std::to_string(step + 1)] = p.value.detach().clone();
  }
  out["multiplier"] = torch::tensor(multipliers, torch::kFloat64);
  return out;
}

class GoldenQatOptimizers : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenQatOptimizers, EveryRunHasTheRecordedParameters) {
  QUELL_NEED_DATA(folder, "golden/qat/optim/" + GetParam());
  check_golden_case(folder, {{"bert_adam", bert_adam}});
}

INSTANTIATE_TEST_SUITE_P(All, GoldenQatOptimizers,
                         ::testing::ValuesIn(quell::testing::case_folders("golden/qat/optim")),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

/// Ours and torch's side by side on the same gradients.
void expect_as_torch(Optimizer& ours, torch::optim::Optimizer& torchs, torch::Tensor theirs,
                     double rate, const std::function<void(double)>& set_rate) {
  torch::Tensor mine = ours.parameters().front().value;
  for (int step = 0; step < 30; ++step) {
    const double scheduled = rate * (1 + 0.1 * step);
    mine.mutable_grad() = gradient_at(mine, step);
    theirs.mutable_grad() = gradient_at(theirs, step);
    set_rate(scheduled);
    ours.step(scheduled);
    torchs.step();
  }
  EXPECT_LT((mine - theirs).abs().max().item<double>(), 1e-12);
}

TEST(Optimizers, AdamWIsTorchs) {
  const torch::Tensor start = torch::linspace(-1, 2, 11, torch::kFloat64);
  torch::Tensor theirs = leaf(start);
  torch::optim::AdamW reference({theirs}, torch::optim::AdamWOptions(0.01).weight_decay(0.05));
  AdamW ours({{"p", leaf(start), 0.05}}, {});
  expect_as_torch(ours, reference, theirs, 0.01, [&](double rate) {
    static_cast<torch::optim::AdamWOptions&>(reference.param_groups()[0].options()).lr(rate);
  });
}

TEST(Optimizers, SgdIsTorchs) {
  const torch::Tensor start = torch::linspace(-1, 2, 11, torch::kFloat64);
  torch::Tensor theirs = leaf(start);
  torch::optim::SGD reference({theirs},
                              torch::optim::SGDOptions(0.01).momentum(0.9).weight_decay(0.05));
  Sgd ours({{"p", leaf(start), 0.05}}, 0.9);
  expect_as_torch(ours, reference, theirs, 0.01, [&](double rate) {
    static_cast<torch::optim::SGDOptions&>(reference.param_groups()[0].options()).lr(rate);
  });
}

std::vector<std::unique_ptr<Optimizer>> one_of_each(const torch::Tensor& a,
                                                    const torch::Tensor& b) {
  const std::vector<TrainedParameter> parameters = {{"a", a, 0.01}, {"b.weight", b, 0, 10}};
  std::vector<std::unique_ptr<Optimizer>> out;
  out.push_back(std::make_unique<AdamW>(parameters, AdamOptions{}));
  out.push_back(std::make_unique<BertAdam>(parameters, AdamOptions{}));
  out.push_back(std::make_unique<Sgd>(parameters, 0.9));
  return out;
}

void run_steps(Optimizer& optimizer, int begin, int end) {
  for (int step = begin; step < end; ++step) {
    for (const TrainedParameter& p : optimizer.parameters())
      p.value.mutable_grad() = gradient_at(p.value, step);
    // One of the two goes without a gradient now and then.
    if (step % 3 == 1) optimizer.parameters()[0].value.mutable_grad() = torch::Tensor();
    optimizer.step(0.01);
  }
}

TEST(Optimizers, GoOnFromTheirStateWithTheSameBytes) {
  const torch::Tensor start = torch::linspace(-1, 1, 7);
  for (std::size_t kind = 0; kind < 3; ++kind) {
    const torch::Tensor a = leaf(start), b = leaf(2 * start);
    const auto whole = std::move(one_of_each(a, b)[kind]);
    run_steps(*whole, 0, 20);

    const torch::Tensor c = leaf(start), d = leaf(2 * start);
    const auto first = std::move(one_of_each(c, d)[kind]);
    run_steps(*first, 0, 9);
    const torch::Tensor e = leaf(c), f = leaf(d);
    const auto second = std::move(one_of_each(e, f)[kind]);
    second->restore(first->state());
    run_steps(*second, 9, 20);
    EXPECT_TRUE(torch::equal(a, e) && torch::equal(b, f)) << kind;
  }
}

TEST(Optimizers, RefuseTheStateOfOtherParameters) {
  AdamW optimizer({{"a", leaf(torch::zeros({3}))}}, {});
  EXPECT_THROW(optimizer.restore({{"b.mean", torch::zeros({3})}}), Error);
  EXPECT_THROW(optimizer.restore({{"a.mean", torch::zeros({4})}}), Error);
  EXPECT_THROW(optimizer.restore({{"a.steps", torch::zeros({2})}}), Error);
}

TEST(Optimizers, GradientsAreClippedEachOrTogetherAndTheCulpritIsNamed) {
  const auto parameters = [] {
    std::vector<TrainedParameter> out = {{"a", leaf(torch::zeros({2}))},
                                         {"b", leaf(torch::zeros({2}))},
                                         {"without", leaf(torch::zeros({2}))}};
    out[0].value.mutable_grad() = torch::tensor({3.0F, 4.0F});
    out[1].value.mutable_grad() = torch::tensor({0.0F, 0.5F});
    return out;
  };
  auto each = parameters();
  EXPECT_DOUBLE_EQ(clip_gradients(each, ClipNorm::kEachTensor, 1), 5);
  EXPECT_NEAR(each[0].value.grad().norm().item<double>(), 1, 1e-5);
  EXPECT_EQ(each[1].value.grad()[1].item<float>(), 0.5F);

  auto all = parameters();
  EXPECT_NEAR(clip_gradients(all, ClipNorm::kGlobal, 1), std::sqrt(25.25), 1e-6);
  EXPECT_NEAR(all[1].value.grad()[1].item<double>(), 0.5 / std::sqrt(25.25), 1e-5);

  auto broken = parameters();
  broken[1].value.mutable_grad()[0] = NAN;
  std::string culprit;
  EXPECT_FALSE(std::isfinite(clip_gradients(broken, ClipNorm::kGlobal, 1, &culprit)));
  EXPECT_EQ(culprit, "b");
  EXPECT_EQ(broken[0].value.grad()[0].item<float>(), 3.0F);
}

TEST(Schedule, RisesHoldsAndFalls) {
  const Schedule linear{Decay::kLinear, 0.2};
  EXPECT_EQ(linear.factor(0, 10), 0);
  EXPECT_DOUBLE_EQ(linear.factor(1, 10), 0.5);
  EXPECT_DOUBLE_EQ(linear.factor(2, 10), 1);
  EXPECT_DOUBLE_EQ(linear.factor(6, 10), 0.5);
  EXPECT_EQ(linear.factor(12, 10), 0);
  const Schedule constant{Decay::kConstant, 0};
  EXPECT_EQ(constant.factor(0, 10), 1);
  EXPECT_EQ(constant.factor(10, 10), 1);
  const Schedule cosine{Decay::kCosine, 0};
  EXPECT_DOUBLE_EQ(cosine.factor(0, 10), 1);
  EXPECT_NEAR(cosine.factor(5, 10), 0.5, 1e-12);
  EXPECT_NEAR(cosine.factor(10, 10), 0, 1e-12);
}

}  // namespace
}  // namespace quell::train
