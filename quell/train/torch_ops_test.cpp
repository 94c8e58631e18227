// Every op of the folder on a small graph: its values beside those of the float engine, and its
// gradients beside finite differences in double.
#include <gtest/gtest.h>

#include <set>

#include "quell/engine/engines.h"
#include "quell/train/op_cases.h"
#include "quell/train/torch_model.h"
#include "quell/train/torch_op.h"

namespace quell::train {
namespace {

/// Of a loss that weighs every output differently.
double loss_of(const TorchModel& model, const TokenBatch& batch, torch::Tensor* kept = nullptr) {
  const torch::Tensor out = model.forward(batch).values.at("out");
  const torch::Tensor weights =
      torch::cos(torch::arange(out.numel(), torch::kFloat64) * 1.7).view(out.sizes());
  const torch::Tensor loss = (out * weights).sum();
  if (kept) *kept = loss;
  return loss.item<double>();
}

double difference(const TorchModel& model, const TokenBatch& batch, double* element) {
  const torch::NoGradGuard guard;
  constexpr double kStep = 1e-6;
  const double there = *element;
  *element = there + kStep;
  const double above = loss_of(model, batch);
  *element = there - kStep;
  const double below = loss_of(model, batch);
  *element = there;
  return (above - below) / (2 * kStep);
}

class TorchOps : public ::testing::TestWithParam<OpCase> {};

TEST_P(TorchOps, ValuesAreThoseOfTheFloatEngine) {
  const Model model = model_of(GetParam());
  const TokenBatch batch = batch_of(GetParam());
  ExecContext ctx(1);
  ForwardOutputs outputs;
  make_float_model(model)->forward(batch, outputs, ctx);
  const Tensor& want = outputs.values.at("out");

  const torch::NoGradGuard guard;
  for (const torch::ScalarType dtype : {torch::kFloat32, torch::kFloat64}) {
    const torch::Tensor out = TorchModel(model, dtype).forward(batch).values.at("out");
    EXPECT_EQ(out.scalar_type(), dtype);
    const torch::Tensor got = out.to(torch::kFloat32).contiguous();
    ASSERT_EQ(got.sizes().vec(), want.shape().dims());
    for (std::int64_t i = 0; i < got.numel(); ++i) {
      const float value = want.f32()[static_cast<std::size_t>(i)];
      EXPECT_NEAR(got.data_ptr<float>()[i], value, 2e-6 * (1 + std::abs(value))) << i;
    }
  }
}

TEST_P(TorchOps, GradientsAreFiniteDifferences) {
  const Model model = model_of(GetParam());
  const TokenBatch batch = batch_of(GetParam());
  const TorchModel trained(model, torch::kFloat64);
  torch::Tensor loss;
  loss_of(trained, batch, &loss);
  ASSERT_FALSE(trained.parameters().trained().empty());
  loss.backward();

  for (const TorchParameter& p : trained.parameters().trained()) {
    ASSERT_TRUE(p.tensor.grad().defined()) << p.name;
    const torch::Tensor gradient = p.tensor.grad().contiguous();
    for (std::int64_t i = 0; i < p.tensor.numel(); ++i) {
      const double got = gradient.data_ptr<double>()[i];
      const double want = difference(trained, batch, p.tensor.data_ptr<double>() + i);
      EXPECT_NEAR(got, want, 1e-7 * (1 + std::abs(want))) << p.name << " " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, TorchOps, ::testing::ValuesIn(op_cases()),
                         [](const auto& info) { return info.param.name; });

TEST(TorchOpsFolder, EveryOpHasACaseHere) {
  // Quantizers compute nothing of their own (torch_model_test.cpp).
  std::set<std::string_view> seen = {op_quantize.name, op_quantize_weight.name};
  for (const OpCase& c : op_cases()) {
    const Model model = model_of(c);
    for (const Node& node : model.graph.nodes()) seen.insert(node.op->name);
  }
  for (const TorchOp* op : all_of(static_cast<const TorchOp*>(nullptr)))
    EXPECT_TRUE(seen.contains(op->op->name)) << op->op->name;
}

}  // namespace
}  // namespace quell::train
