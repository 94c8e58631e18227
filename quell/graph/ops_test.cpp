// Ops on their own: what their references compute, and their gradients against differences.
#include "quell/graph/ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/graph/builder.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

Tensor random_tensor(Shape shape, std::uint64_t seed) {
  Random random(seed);
  Tensor t = Tensor::f32(std::move(shape));
  for (float& v : t.f32()) v = static_cast<float>(2 * random.uniform() - 1);
  return t;
}

/// One node with operands and parameters that the test gives.
class Call final : public GradientCall {
 public:
  Call(Node node, std::vector<Tensor> operands, ExecContext& ctx)
      : node_(std::move(node)), operands_(std::move(operands)), ctx_(ctx) {
    for (std::size_t i = 0; i < operands_.size(); ++i) node_.in.push_back(static_cast<ValueId>(i));
    gradients.resize(operands_.size());
  }
  const Node& node() const override { return node_; }
  ExecContext& ctx() const override { return ctx_; }
  TensorView in(std::size_t i) override { return operands_[i]; }
  const Tensor& weight() const override { return weight_; }
  const Tensor& bias() const override { return bias_; }
  const Tensor& vector(std::size_t i) const override { return vectors_[i]; }
  RowSpace rows(std::size_t) const override { return {}; }
  const TokenBatch& tokens() const override { return batch; }
  const TokenBatch& first_tokens() const override { return first.batch > 0 ? first : batch; }
  const Tensor& gradient() const override { return seed; }
  Tensor take_gradient() override { return seed.clone(); }
  void add(std::size_t i, Tensor gradient) override { gradients[i] = std::move(gradient); }

  Tensor run() { return node_.op->reference(*this); }
  Tensor& operand(std::size_t i) { return operands_[i]; }

  TokenBatch batch;
  TokenBatch first;
  Tensor seed;
  std::vector<Tensor> gradients;
  Tensor weight_;
  Tensor bias_;
  std::vector<Tensor> vectors_;

 private:
  Node node_;
  std::vector<Tensor> operands_;
  ExecContext& ctx_;
};

TokenBatch two_sequences() {
  TokenBatch batch;
  batch.batch = 2;
  batch.length = 3;
  batch.ids = {5, 2, 1, 6, 7, 2};
  batch.mask = {1, 1, 0, 1, 1, 1};
  batch.type_ids.assign(6, 0);
  return batch;
}

/// d(sum of output * seed) / d(operand i), by differences, against what the op says.
void expect_gradients(Call& call, const std::string& what) {
  const Tensor y = call.run();
  call.seed = random_tensor(y.shape(), 7);
  call.node().op->gradient(call);

  const auto loss = [&] {
    const Tensor out = call.run();
    double sum = 0;
    for (std::size_t i = 0; i < out.f32().size(); ++i)
      sum += static_cast<double>(out.f32()[i]) * static_cast<double>(call.seed.f32()[i]);
    return sum;
  };
  constexpr float kStep = 1e-2F;
  for (std::size_t i = 0; i < call.gradients.size(); ++i) {
    ASSERT_TRUE(call.gradients[i].defined()) << what << " operand " << i;
    for (std::size_t j = 0; j < call.operand(i).f32().size(); ++j) {
      float& x = call.operand(i).f32()[j];
      const float kept = x;
      x = kept + kStep;
      const double above = loss();
      x = kept - kStep;
      const double below = loss();
      x = kept;
      const double expected = (above - below) / (2 * static_cast<double>(kStep));
      EXPECT_NEAR(static_cast<double>(call.gradients[i].f32()[j]), expected, 2e-3)
          << what << " operand " << i << " element " << j;
    }
  }
}

TEST(OpGradients, AgreeWithDifferences) {
  ExecContext ctx(1);
  const auto check = [&](const OpDef& op, Attributes attributes, std::size_t operands,
                         const std::function<void(Call&)>& prepare = nullptr) {
    std::vector<Tensor> in;
    for (std::size_t i = 0; i < operands; ++i) in.push_back(random_tensor({6, 4}, 11 + i));
    Node node;
    node.op = &op;
    node.attributes = std::move(attributes);
    Call call(std::move(node), std::move(in), ctx);
    call.batch = two_sequences();
    if (prepare) prepare(call);
    expect_gradients(call, std::string(op.name));
  };
  const auto with_weight = [](Shape shape) {
    return [shape](Call& call) { call.weight_ = random_tensor(shape, 3); };
  };

  check(op_add, {}, 2);
  check(op_multiply, {}, 2);
  check(op_scale, Attributes::of(Factor{0.75}), 1);
  check(op_mask_rows, {}, 1);
  check(op_select_first, {}, 1);
  check(op_select_column, Attributes::of(std::int64_t{2}), 1);
  check(op_activation, Attributes::of(ActivationKind::kGelu), 1);
  check(op_activation, Attributes::of(ActivationKind::kSilu), 1);
  check(op_activation, Attributes::of(ActivationKind::kHardSwish), 1);
  check(op_activation, Attributes::of(ActivationKind::kSigmoid), 1);
  check(op_activation, Attributes::of(ActivationKind::kHardTanh), 1);
  check(op_activation, Attributes::of(ActivationKind::kRelu2), 1);
  check(op_linear, {}, 1, with_weight({5, 4}));
  check(op_norm, Attributes::of(NormAttributes{NormKind::kLayerNorm, 1e-5}), 1, with_weight({4}));
  check(op_norm, Attributes::of(NormAttributes{NormKind::kRmsNorm, 1e-5}), 1, with_weight({4}));
  check(op_head_norm, Attributes::of(NormAttributes{NormKind::kRmsNorm, 1e-5}), 1,
        with_weight({2}));
}

TEST(OpGradients, PreluAwayFromItsKink) {
  ExecContext ctx(1);
  std::vector<Tensor> in;
  in.push_back(Tensor::from<float>(std::vector<float>{-1, 2, -3, -4, 5, 6}, {3, 2}));
  Node node;
  node.op = &op_prelu;
  Call call(std::move(node), std::move(in), ctx);
  call.weight_ = random_tensor({2}, 3);
  expect_gradients(call, "prelu");
}

TEST(Ops, SelectTokens) {
  ExecContext ctx(1);
  const auto rows = [&](const OpDef& op, Attributes attributes, TokenBatch first = {}) {
    Tensor x = Tensor::f32({6, 1});
    for (int i = 0; i < 6; ++i) x.f32()[static_cast<std::size_t>(i)] = static_cast<float>(i);
    Node node;
    node.op = &op;
    node.attributes = std::move(attributes);
    std::vector<Tensor> operands;
    operands.push_back(std::move(x));
    Call call(std::move(node), std::move(operands), ctx);
    call.batch = two_sequences();
    call.first = std::move(first);
    const Tensor out = call.run();
    return std::vector<float>(out.f32().begin(), out.f32().end());
  };
  EXPECT_EQ(rows(op_select_first, {}), (std::vector<float>{0, 3}));
  EXPECT_EQ(rows(op_select_last, Attributes::of(SelectLastAttributes{})),
            (std::vector<float>{1, 5}));
  EXPECT_EQ(rows(op_select_last, Attributes::of(SelectLastAttributes{2})),
            (std::vector<float>{0, 4}));
  EXPECT_EQ(rows(op_select_eos, Attributes::of(SelectEosAttributes{{2}})),
            (std::vector<float>{1, 5}));
  EXPECT_THROW(rows(op_select_eos, Attributes::of(SelectEosAttributes{{9}})), Error);
  TokenBatch input = two_sequences();  // a decoder looks at where the input ends
  input.ids = {2, 5, 5, 5, 2, 5};
  EXPECT_EQ(rows(op_select_eos, Attributes::of(SelectEosAttributes{{2}}), input),
            (std::vector<float>{0, 4}));
}

TEST(Ops, PositionIds) {
  TokenBatch batch = two_sequences();
  batch.mask = {0, 1, 1, 1, 1, 0};  // padded on the left, then on the right
  EXPECT_EQ(position_ids({}, batch), (std::vector<std::int32_t>{0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(position_ids({PositionRule::kMaskCount}, batch),
            (std::vector<std::int32_t>{0, 0, 1, 0, 1, 0}));
  EXPECT_EQ(position_ids({PositionRule::kMaskCount, 2}, batch),
            (std::vector<std::int32_t>{1, 2, 3, 2, 3, 1}));
  EXPECT_EQ(position_ids({PositionRule::kNonPadCount, 2, 1}, batch),
            (std::vector<std::int32_t>{2, 3, 1, 2, 3, 4}));
  batch.past = {4, 4};
  EXPECT_EQ(position_ids({}, batch), (std::vector<std::int32_t>{4, 5, 6, 4, 5, 6}));
}

TEST(Attributes, AreWhatWasPutIn) {
  const Attributes a = Attributes::of(Factor{3});
  EXPECT_TRUE(a.holds<Factor>());
  EXPECT_FALSE(a.holds<double>());
  EXPECT_EQ(a.get<Factor>().value, 3);
  EXPECT_THROW(a.get<double>(), std::bad_cast);
  EXPECT_TRUE(Attributes().empty());
}

}  // namespace
}  // namespace quell
