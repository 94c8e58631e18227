// The interpreter on graphs that are made by hand: values by hand, inputs, what is kept how long.
#include "quell/engine/executor.h"

#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/engine/engines.h"
#include "quell/graph/forms.h"
#include "quell/model/family.h"
#include "quell/ops/elementwise.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

TokenBatch batch_of_two() {
  TokenBatch batch;
  batch.batch = 1;
  batch.length = 2;
  batch.ids = {1, 0};
  batch.mask = {1, 1};
  batch.type_ids.assign(2, 0);
  return batch;
}

/// relu(x w + b) + x, x by token.
Model tiny() {
  ModelBuilder g;
  g.spec.model_type = "tiny";
  g.spec.hidden_size = 2;
  g.spec.max_position_embeddings = 2;
  const ValueId x = g.embedding("word_embeddings", "embed", g.token_ids(), {2, 2});
  g.hidden_state(x);
  {
    const auto layer = g.layer("layers", 0);
    const ValueId y =
        g.activation(ActivationKind::kRelu, g.linear("fc1", "dense", x, 2, {.bias = true}));
    g.hidden_state(g.add(x, y));
    g.output("last_hidden_state", g.graph().stacks.front().hidden_states.back());
  }
  std::map<std::string, Tensor> weights;
  const auto put = [&](const char* name, std::vector<float> values, Shape shape) {
    weights[name] = Tensor::from<float>(values, std::move(shape));
  };
  put("embed.weight", {1, 2, 3, 4}, {2, 2});
  put("layers.0.dense.weight", {1, 1, -1, -1}, {2, 2});
  put("layers.0.dense.bias", {0.5F, 0}, {2});
  return make_model({g.spec, g.take()}, std::move(weights));
}

TEST(Executor, ComputesNodeByNode) {
  const Model model = tiny();
  const OpTable ops = make_float_ops(model);
  ExecContext ctx(1);
  const TokenBatch batch = batch_of_two();
  Executor executor(model, ops, false, batch, ctx);
  executor.keep_values = true;
  executor.run_until();

  const auto value = [&](const char* label) {
    const Tensor& t = executor.value(model.graph.node(model.graph.find(label)).out);
    return std::vector<float>(t.f32().begin(), t.f32().end());
  };
  EXPECT_EQ(value("word_embeddings"), (std::vector<float>{3, 4, 1, 2}));
  EXPECT_EQ(value("layers.0.fc1"), (std::vector<float>{7.5F, -7, 3.5F, -3}));
  EXPECT_EQ(value("layers.0.activation"), (std::vector<float>{7.5F, 0, 3.5F, 0}));
  EXPECT_EQ(value("layers.0.add"), (std::vector<float>{10.5F, 4, 4.5F, 2}));
}

TEST(Executor, ValuesGoWithTheirLastUse) {
  const Model model = tiny();
  const OpTable ops = make_float_ops(model);
  ExecContext ctx(1);
  const TokenBatch batch = batch_of_two();
  Executor executor(model, ops, false, batch, ctx);
  const NodeId add = model.graph.find("layers.0.add");
  const ValueId x = model.graph.node(model.graph.find("word_embeddings")).out;
  executor.run_until(add);
  EXPECT_TRUE(executor.value(x).defined()) << "the sum still reads it";
  executor.run(add);
  EXPECT_FALSE(executor.value(x).defined());
  EXPECT_TRUE(executor.value(model.graph.node(add).out).defined());
}

TEST(Executor, FormsOfAValueAreReadByWhomTheyAreMeantFor) {
  Model model = tiny();
  Graph& graph = model.graph;
  const ValueId x = graph.node(graph.find("word_embeddings")).out;
  const NodeId linear = graph.find("layers.0.fc1");
  const NodeId sum = graph.find("layers.0.add");
  const Tensor scale = Tensor::from<float>(std::vector<float>{2, 4}, {2});
  const Tensor shift = Tensor::from<float>(std::vector<float>{1, 0}, {2});
  divide_explicitly(graph, x, scale, shift);
  restore_for_others(graph, x, scale, shift);

  const OpTable ops = make_float_ops(model);
  ExecContext ctx(1);
  const TokenBatch batch = batch_of_two();
  Executor executor(model, ops, false, batch, ctx);
  executor.run_until(linear);
  EXPECT_EQ(executor.migrated_value(x).f32()[0], 1) << "(3 - 1) / 2";
  Tensor storage;
  EXPECT_EQ(executor.operand(graph.node(linear).in[0], storage).f32()[0], 1);
  const TensorView seen = executor.operand(graph.node(sum).in[0], storage);
  EXPECT_EQ(seen.f32()[0], 3);
  EXPECT_EQ(seen.f32()[3], 2);
  EXPECT_EQ(base_of(graph, graph.node(sum).in[0]), x);
  EXPECT_EQ(readers_of(graph, x), (std::vector<NodeId>{linear, sum}));
}

TEST(Executor, QuantizersAreIdentityWhereTheyAreOff) {
  Model model = tiny();
  Graph& graph = model.graph;
  const ValueId x = graph.node(graph.find("word_embeddings")).out;
  const ActivationQuant coarse{QuantSpec{.num_bits = 2, .symmetric = false}, {1.5F, 0}};
  set_input_quant(graph, x, coarse, true, [](const Node&) { return false; });

  const OpTable ops = make_float_ops(model);
  ExecContext ctx(1);
  const TokenBatch batch = batch_of_two();
  const ValueId read = graph.node(graph.find("layers.0.add")).in[0];
  EXPECT_NE(read, x);
  for (const bool on : {false, true}) {
    Executor executor(model, ops, on, batch, ctx);
    executor.run(0);
    Tensor storage;
    EXPECT_EQ(executor.operand(read, storage).f32()[1], on ? 4.5F : 4.0F);
  }
}

TEST(Executor, TablesAreReadBehindTheirQuantizerWhereItIsOn) {
  Model model = tiny();
  const Node embedding = model.graph.node(model.graph.find("word_embeddings"));
  const Tensor table = model.weight_of(model.param(embedding.param)).clone();
  QuantSpec coarse;
  coarse.num_bits = 2;
  coarse.granularity = Granularity::kPerTensor;
  model.set_table_codes(embedding.param, quantize_weight(table, coarse));
  const ValueId quantized = model.graph.node(model.graph.find("word_embeddings")).in[1];

  const OpTable ops = make_float_ops(model);
  ExecContext ctx(1);
  const TokenBatch batch = batch_of_two();
  const auto first = [&](const Quantization& quantization, ValueId v) {
    const Executor executor(model, ops, quantization, batch, ctx);
    Tensor storage;
    return executor.operand(v, storage).f32()[0];
  };
  Quantization with_float_tables(true);
  with_float_tables.float_tables = true;
  const float codes = model.param(0).packed_table.dequantize().f32()[0];
  EXPECT_NE(codes, table.f32()[0]);
  EXPECT_EQ(first(true, quantized), codes);
  EXPECT_EQ(first(false, quantized), table.f32()[0]);
  EXPECT_EQ(first(with_float_tables, quantized), table.f32()[0]);
  EXPECT_EQ(first(true, model.graph.weight(0)), table.f32()[0]) << "nobody quantizes the matrix";

  const auto looked_up = [&](const Quantization& quantization) {
    Executor executor(model, ops, quantization, batch, ctx);
    executor.run(model.graph.find("word_embeddings"));
    const auto rows = executor.value(embedding.out).f32();
    return std::vector<float>(rows.begin(), rows.end());
  };
  const auto rows_of = [&](const Tensor& whole) {
    Tensor rows = Tensor::f32({static_cast<std::int64_t>(batch.ids.size()), whole.cols()});
    gather_rows(whole, batch.ids, "token id", rows.span());
    return std::vector<float>(rows.f32().begin(), rows.f32().end());
  };
  EXPECT_EQ(looked_up(true), rows_of(model.param(0).packed_table.dequantize()));
  EXPECT_EQ(looked_up(with_float_tables), rows_of(table));
}

TEST(Executor, RefusesWhatTheModelCannotTake) {
  const Model model = tiny();
  const OpTable ops = make_float_ops(model);
  ExecContext ctx(1);
  TokenBatch batch = batch_of_two();
  batch.length = 3;
  batch.ids = {0, 1, 1};
  batch.mask = {1, 1, 1};
  EXPECT_THROW(Executor(model, ops, false, batch, ctx), Error) << "more tokens than positions";
  batch.pixels = {1, 2, 3};
  EXPECT_THROW(Executor(model, ops, false, batch, ctx), Error) << "images";

  TokenBatch wrong = batch_of_two();
  wrong.ids = {7, 0};
  Executor executor(model, ops, false, wrong, ctx);
  EXPECT_THROW(executor.run(0), Error) << "a token outside the table";
}

}  // namespace
}  // namespace quell
