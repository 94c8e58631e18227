// A family and an op that lie out of the tree (tests/extension), each in one file: read, run,
// compressed and differentiated like those that come with Quell. And the labels of all nodes, by
// which files, journals and --ignore call them.
#include <gtest/gtest.h>

#include <fstream>

#include "quell/compress/backward.h"
#include "quell/compress/compress.h"
#include "quell/engine/lower.h"
#include "quell/graph/forms.h"
#include "quell/io/json.h"
#include "quell/text/data/token_batch.h"
#include "tests/extension/doubling_bert.h"
#include "tests/extension/doubling_op.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

/// The embedded model with the out-of-tree family; `doublings` as its config.json would say.
Model load_doubling(int doublings, const testing::ScratchDir& scratch) {
  const fs::path dir = scratch / std::to_string(doublings);
  fs::copy(testing::kReviews / "model", dir);
  Json config = read_json_file(dir / "config.json");
  config["doublings"] = doublings;
  std::ofstream(dir / "config.json") << config;
  return load_model(Checkpoint::open(dir), {.family = &testing::doubling_bert});
}

TokenBatch some_tokens(const Model& model) {
  return make_batches({{{2, 7, 9, 11, 3}, {}, {}}, {{2, 8, 3}, {}, {}}}, 2, model.spec.pad_token_id)
      .front();
}

Tensor logits_of(const ForwardModel& engine, const TokenBatch& batch) {
  ExecContext ctx(1);
  ForwardOutputs outputs;
  engine.forward(batch, outputs, ctx);
  return std::move(outputs.values.at("logits"));
}

TEST(OutOfTree, AFamilyWithAnOpOfItsOwnIsReadAndRun) {
  const testing::ScratchDir scratch;
  const Model plain = load_model(Checkpoint::open(testing::kReviews / "model"));
  const Model none = load_doubling(0, scratch);
  const Model once = load_doubling(1, scratch);
  const TokenBatch batch = some_tokens(plain);

  const Tensor expected = logits_of(*make_float_model(plain), batch);
  const Tensor same = logits_of(*make_float_model(none), batch);
  const Tensor other = logits_of(*make_float_model(once), batch);
  EXPECT_TRUE(std::equal(expected.f32().begin(), expected.f32().end(), same.f32().begin()));
  EXPECT_FALSE(std::equal(expected.f32().begin(), expected.f32().end(), other.f32().begin()));
  EXPECT_NE(once.graph.find("doubling"), kNoNode);
}

TEST(OutOfTree, ItIsCompressedAndRunsInIntegers) {
  const testing::ScratchDir scratch;
  Model model = load_doubling(1, scratch);
  const TokenBatch batch = some_tokens(model);
  ExecContext ctx(1);
  compress(model, {batch}, load_recipe("minmax"), ctx);
  ASSERT_TRUE(model.is_quantized());
  const Tensor simulated = logits_of(*make_simulated_model(model, true, ctx.isa), batch);
  const Tensor integer = logits_of(*lower(model, ctx), batch);
  EXPECT_TRUE(std::equal(simulated.f32().begin(), simulated.f32().end(), integer.f32().begin()));
}

TEST(OutOfTree, ItsGradientIsUsed) {
  const testing::ScratchDir scratch;
  ExecContext ctx(1);
  std::vector<float> steps;
  for (const int doublings : {0, 1}) {
    Model model = load_doubling(doublings, scratch);
    // The op reads the value as quantized, so that its gradient reaches the step.
    const NodeId norm = model.graph.find("embedding_norm");
    const ValueId value = model.graph.node(norm).out;
    const ActivationQuant quant{QuantSpec{.num_bits = 8, .symmetric = false}, {0.05F, 128}};
    set_input_quant(model.graph, value, quant, true, [](const Node&) { return false; });
    const TokenBatch batch = some_tokens(model);
    const OpTable ops = make_float_ops(model);
    Executor executor(model, ops, true, batch, ctx);
    executor.keep_values = true;
    executor.run_until();

    Backward backward(model, {}, executor, ctx);
    const ValueId seed = model.graph.node(model.graph.find("doubling")).out;
    Tensor ones = Tensor::f32(executor.value(seed).shape());
    for (float& v : ones.f32()) v = 1;
    backward.seed(seed, std::move(ones));
    backward.run();
    steps.push_back(static_cast<float>(backward.at_values[value].scale));
  }
  EXPECT_NE(steps[0], 0);
  EXPECT_NEAR(steps[1], 2 * steps[0], 1e-3F * std::abs(steps[0]));
}

/// Recorded before the graph was said by builder calls; position ids were no nodes then.
TEST(Labels, OfAllNodesAreThoseOfEarlierVersions) {
  const Json recorded = read_json_file(fs::path(QUELL_SOURCE_DIR) / "tests/golden/labels.json");
  int models = 0;
  for (const auto& [folder, labels] : recorded.items()) {
    const fs::path dir = testing::find_data("golden/models/" + folder);
    if (dir.empty()) continue;
    ++models;
    const Model model = load_model(Checkpoint::open(dir));
    std::vector<std::string> found;
    for (const Node& node : model.graph.nodes())
      if (!node.is(op_position_ids)) found.push_back(node.label);
    EXPECT_EQ(found, labels.get<std::vector<std::string>>()) << folder;
  }
  if (models == 0) GTEST_SKIP() << "no golden models here";
}

}  // namespace
}  // namespace quell
