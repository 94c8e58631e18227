// Models made in memory: weights by name, ties, what is missing or misshapen.
#include "quell/model/model.h"

#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/graph/forms.h"
#include "quell/io/json.h"
#include "quell/model/family.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

/// A linear between an embedding and a head that is tied to it.
Architecture tiny() {
  ModelBuilder g;
  g.spec.vocab_size = 3;
  g.spec.hidden_size = 2;
  g.spec.max_position_embeddings = 8;
  g.spec.head = Head::kCausalLm;
  ValueId h = g.embedding("word_embeddings", "embed", g.token_ids(), {3, 2});
  g.hidden_state(h);
  h = g.linear("fc1", "dense", h, 2, {.bias = true});
  g.output("last_hidden_state", h);
  g.output("logits",
           g.linear("lm_head", "head", h, 3, {.role = Role::kLmHead, .tied_to = "embed"}));
  return {g.spec, g.take()};
}

Tensor tensor(std::vector<float> values, Shape shape) {
  return Tensor::from<float>(values, std::move(shape));
}

std::map<std::string, Tensor> weights() {
  std::map<std::string, Tensor> w;
  w["embed.weight"] = tensor({1, 2, 3, 4, 5, 6}, {3, 2});
  w["dense.weight"] = tensor({1, 0, 0, 1}, {2, 2});
  w["dense.bias"] = tensor({10, 20}, {2});
  return w;
}

std::string refusal(std::map<std::string, Tensor> w) {
  try {
    make_model(tiny(), std::move(w));
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(MakeModel, FillsTheParametersOfAGraph) {
  const Model model = make_model(tiny(), weights());
  ASSERT_EQ(model.params.size(), 3U);
  EXPECT_EQ(model.param_of(model.graph.find("fc1")).bias.f32()[1], 20);
  const Param& head = model.param_of(model.graph.find("lm_head"));
  EXPECT_FALSE(head.weight.defined());
  EXPECT_EQ(model.weight_of(head).f32()[5], 6);
  EXPECT_TRUE(model.unused_tensors.empty());
}

TEST(MakeModel, ATiedMatrixThatDiffersIsItsOwn) {
  std::map<std::string, Tensor> w = weights();
  w["head.weight"] = tensor({1, 2, 3, 4, 5, 7}, {3, 2});
  const Model model = make_model(tiny(), std::move(w));
  const Param& head = model.param_of(model.graph.find("lm_head"));
  EXPECT_EQ(head.tied_to, kNoParam);
  EXPECT_EQ(model.weight_of(head).f32()[5], 7);
}

TEST(MakeModel, AQuantizedTableLeavesItsHeadInFloat) {
  Model model = make_model(tiny(), weights());
  const ParamId table = model.graph.node(model.graph.find("word_embeddings")).param;
  QuantSpec two_bits;
  two_bits.num_bits = 2;
  two_bits.granularity = Granularity::kPerTensor;
  model.set_table_codes(table, quantize_weight(model.param(table).weight, two_bits));
  EXPECT_EQ(weight_quant_of(model.graph, table)->num_bits, 2);
  EXPECT_NE(model.param(table).packed_table.dequantize().f32()[0], 1);
  EXPECT_EQ(model.param(table).weight.f32()[0], 1) << "the float matrix stays";

  model.clear_weight_quantizers();
  EXPECT_EQ(weight_quant_of(model.graph, table), nullptr);
  EXPECT_FALSE(model.param(table).packed_table.defined());
}

TEST(MakeModel, SaysWhatDoesNotFit) {
  std::map<std::string, Tensor> missing = weights();
  missing.erase("dense.bias");
  EXPECT_NE(refusal(std::move(missing)).find("\"dense.bias\""), std::string::npos);

  std::map<std::string, Tensor> misshapen = weights();
  misshapen["dense.weight"] = tensor({1, 2}, {1, 2});
  EXPECT_NE(refusal(std::move(misshapen)).find("[1, 2]"), std::string::npos);

  std::map<std::string, Tensor> more = weights();
  more["other.weight"] = tensor({1}, {1});
  EXPECT_EQ(make_model(tiny(), std::move(more)).unused_tensors,
            std::vector<std::string>{"other.weight"});
}

TEST(MakeModel, ZerosWhereNothingIsGiven) {
  const Model model = make_zero_model(tiny());
  EXPECT_EQ(model.param_of(model.graph.find("fc1")).weight.shape(), (Shape{2, 2}));
  EXPECT_TRUE(model.missing_tensors.empty());
}

}  // namespace
}  // namespace quell
