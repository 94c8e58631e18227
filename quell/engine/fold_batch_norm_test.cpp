// Folding of batch norms: the same function with fewer nodes, and what is left alone.
#include "quell/model/fold_batch_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "quell/base/random.h"
#include "quell/engine/engines.h"
#include "quell/graph/image_ops.h"
#include "quell/model/family.h"

namespace quell {
namespace {

constexpr std::int64_t kImageSide = 6;

ConvAttributes three_by_three(double padding_value) {
  ConvAttributes conv;
  conv.window = {.kernel_height = 3, .kernel_width = 3, .padding = {1, 1, 1, 1}};
  conv.padding_value = {padding_value, padding_value};
  return conv;
}

/// Two convolutions and a transposed one with batch norms that can be folded, one that is read
/// twice, and a batch norm behind a concatenation.
Architecture net() {
  ModelBuilder g;
  g.spec.max_position_embeddings = 1;
  const ValueId x = g.image({.channels = 2, .size = {kImageSide, kImageSide}});
  ValueId a = g.conv2d("a", "a", x, 4, three_by_three(0.5));
  a = g.activation(ActivationKind::kRelu, g.batch_norm("a_norm", "a_bn", a, 1e-3));
  ValueId b = g.conv2d("b", "b", a, 4, {.groups = 4}, {.bias = true});
  b = g.batch_norm("b_norm", "b_bn", b, 1e-5);

  const ValueId twice = g.conv2d("twice", "twice", b, 4, {});
  const ValueId normed = g.batch_norm("twice_norm", "twice_bn", twice, 1e-5);
  ValueId c = g.node(op_concatenate, {twice, normed});
  c = g.batch_norm("c_norm", "c_bn", c, 1e-5);

  const Window up{.kernel_height = 2, .kernel_width = 2, .stride_height = 2, .stride_width = 2};
  ValueId d = g.conv_transpose2d("d", "d", c, 3, {.window = up});
  d = g.batch_norm("d_norm", "d_bn", d, 1e-5);
  g.output("map", d);
  return {g.spec, g.take()};
}

Model random_net() {
  Model model = make_zero_model(net());
  Random random(5);
  const auto fill = [&](Tensor& t, double low, double high) {
    if (!t.defined()) return;
    for (float& v : t.f32()) v = static_cast<float>(low + (high - low) * random.uniform());
  };
  for (Param& p : model.params) {
    fill(p.weight, -1, 1);
    fill(p.bias, -1, 1);
    if (p.vectors.size() != 2) continue;
    fill(p.vectors[0], -1, 1);
    fill(p.vectors[1], 0.5, 2);
  }
  return model;
}

Tensor map_of(const Model& model) {
  TokenBatch batch;
  batch.batch = 2;
  batch.length = 1;
  Random random(6);
  for (std::int64_t i = 0; i < 2 * 2 * kImageSide * kImageSide; ++i)
    batch.pixels.push_back(static_cast<float>(2 * random.uniform() - 1));
  ExecContext ctx(2);
  ForwardOutputs outputs;
  make_float_model(model)->forward(batch, outputs, ctx);
  return std::move(outputs.values.at("map"));
}

TEST(FoldBatchNorms, KeepsTheFunction) {
  Model model = random_net();
  const Tensor before = map_of(model);
  EXPECT_EQ(fold_batch_norms(model), (std::vector<std::string>{"a", "b", "d"}));

  const Tensor after = map_of(model);
  ASSERT_EQ(after.shape(), before.shape());
  for (std::size_t i = 0; i < before.f32().size(); ++i)
    EXPECT_NEAR(after.f32()[i], before.f32()[i], 2e-5 * (1 + std::fabs(before.f32()[i])));
}

TEST(FoldBatchNorms, TakesOutWhatIsFoldedAlone) {
  Model model = random_net();
  fold_batch_norms(model);
  const auto is_there = [&](const char* label) {
    return !model.graph.is_removed(model.graph.find(label));
  };
  EXPECT_FALSE(is_there("a_norm"));
  EXPECT_FALSE(is_there("b_norm"));
  EXPECT_FALSE(is_there("d_norm")) << "callers see the convolution";
  EXPECT_TRUE(is_there("twice_norm")) << "somebody else reads the convolution";
  EXPECT_TRUE(is_there("c_norm")) << "no convolution stands in front";
  EXPECT_TRUE(model.param_of(model.graph.find("a")).added_bias);
  EXPECT_FALSE(model.param_of(model.graph.find("b")).added_bias) << "it had one";
  EXPECT_TRUE(fold_batch_norms(model).empty()) << "nothing is left to fold";
}

}  // namespace
}  // namespace quell
