// Who takes part in a change of channels, in small graphs: makers, readers, and what lies between.
#include "quell/graph/channel_groups.h"

#include <gtest/gtest.h>

#include "quell/graph/builder.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

using Labels = std::vector<std::string>;

/// Of the members' nodes; callers of the model are "output".
Labels labels(const Graph& graph, const std::vector<ChannelMember>& members) {
  Labels out;
  for (const ChannelMember& m : members)
    out.push_back(m.node == kNoNode ? "output" : graph.node(m.node).label);
  return out;
}

Labels labels(const Graph& graph, const std::vector<NodeId>& nodes) {
  Labels out;
  for (const NodeId n : nodes) out.push_back(graph.node(n).label);
  return out;
}

/// The group of what the node of that label reads first.
ChannelGroup read_by(const Graph& graph, std::string_view label, const ChannelScope& scope = {}) {
  return channel_group(graph, graph.node(graph.find(label)).in[0], scope);
}

ValueId embedded(GraphBuilder& g) {
  return g.embedding("word_embeddings", "embed", g.token_ids(), {10, 8});
}

AttentionRecipe heads(std::int64_t queries, std::int64_t keys, std::int64_t head_dim) {
  AttentionRecipe attention;
  attention.num_heads = queries;
  attention.num_kv_heads = keys;
  attention.head_dim = head_dim;
  return attention;
}

/// A norm, q, k and v of one fused tensor, and out_proj: 4 query heads of 2 share 2 heads of keys
/// and values.
Graph grouped_attention() {
  GraphBuilder g;
  const ValueId h = embedded(g);
  const ValueId x = g.layer_norm("attention_norm", "norm", h, 1e-5);
  const ValueId q = g.linear("q_proj", "q", x, 8);
  const Packing first = {.part = 0, .parts = 2};
  const Packing second = {.part = 1, .parts = 2};
  const ValueId k = g.linear("k_proj", "kv", x, 4, {.packing = first});
  const ValueId v = g.linear("v_proj", "kv", x, 4, {.packing = second});
  const ValueId context = g.attention(heads(4, 2, 2), q, k, v);
  g.output("last_hidden_state", g.add(h, g.linear("out_proj", "out", context, 8)));
  return g.take();
}

TEST(ChannelGroups, ANormTakesWhatThreeLinearsUndo) {
  const Graph graph = grouped_attention();
  const ChannelGroup group = read_by(graph, "q_proj");
  EXPECT_EQ(group.values.size(), 1U);
  EXPECT_EQ(labels(graph, group.producers), (Labels{"attention_norm"}));
  EXPECT_EQ(labels(graph, group.consumers), (Labels{"q_proj", "k_proj", "v_proj"}));
  EXPECT_TRUE(group.others.empty());
  EXPECT_TRUE(group.passers.empty());
  EXPECT_EQ(group.why_not, "");

  const ChannelMember& norm = group.producers.front();
  EXPECT_EQ(norm.axis, ChannelAxis::kElements);
  EXPECT_EQ(norm.change, ChannelChange::kScaleAndShift);
  const ChannelMember& v = group.consumers.back();
  EXPECT_EQ(v.axis, ChannelAxis::kColumns);
  EXPECT_EQ(v.map.size, 8);
  EXPECT_EQ(v.map.own(5), 5);
  EXPECT_EQ(v.map.stored(5), 5) << "parts of a fused tensor are rows of it";
}

TEST(ChannelGroups, QueryHeadsShareRowsOfTheValues) {
  const Graph graph = grouped_attention();
  EXPECT_TRUE(read_by(graph, "out_proj").producers.empty());
  const ChannelGroup group = read_by(graph, "out_proj", {.through_attention = true});
  EXPECT_EQ(labels(graph, group.passers), (Labels{"attention"}));
  EXPECT_EQ(group.passers.front().change, ChannelChange::kScaleAndShift);
  ASSERT_EQ(labels(graph, group.producers), (Labels{"v_proj"}));

  const ChannelMember& v = group.producers.front();
  EXPECT_EQ(v.axis, ChannelAxis::kRows);
  EXPECT_EQ(v.map.size, 8);
  EXPECT_EQ(v.map.own_size(), 4);
  const std::vector<std::int64_t> rows = {0, 1, 0, 1, 2, 3, 2, 3};
  for (std::int64_t c = 0; c < v.map.size; ++c) {
    const std::int64_t row = rows[static_cast<std::size_t>(c)];
    EXPECT_EQ(v.map.own(c), row) << "channel " << c;
    EXPECT_EQ(v.map.stored(c), 4 + row) << "behind the keys: channel " << c;
  }
}

TEST(ChannelGroups, PartsOfATensorAlternateHeadByHead) {
  const Packing packing = {.part = 2, .parts = 3, .interleaved_heads = 2};
  const ChannelMap map = {.size = 4, .packing = packing};
  EXPECT_EQ(map.own(3), 3);
  EXPECT_EQ(map.stored(0), 4) << "behind q and k of the first head";
  EXPECT_EQ(map.stored(3), 11);
}

/// gate_proj and up_proj read a norm; down_proj reads their product.
Graph gated_mlp(bool residual) {
  GraphBuilder g;
  const ValueId h = embedded(g);
  const ValueId x = g.rms_norm("mlp_norm", "norm", h, 1e-6);
  const ValueId gate = g.activation(ActivationKind::kSilu, g.linear("gate_proj", "gate", x, 6));
  const ValueId up = g.linear("up_proj", "up", x, 6);
  const ValueId product = g.multiply(gate, up);
  const ValueId down = g.linear("down_proj", "down", product, residual ? 6 : 8);
  g.output("last_hidden_state", residual ? g.add(product, down) : g.add(h, down));
  return g.take();
}

TEST(ChannelGroups, AFactorTakesTheScaleOfAProduct) {
  const Graph graph = gated_mlp(false);
  const ChannelGroup group = read_by(graph, "down_proj");
  ASSERT_EQ(labels(graph, group.producers), (Labels{"up_proj"}));
  EXPECT_EQ(group.producers.front().axis, ChannelAxis::kRows);
  EXPECT_EQ(group.producers.front().change, ChannelChange::kScale);
  EXPECT_EQ(labels(graph, group.passers), (Labels{"multiply"}));
  EXPECT_EQ(group.why_not, "");
  EXPECT_EQ(labels(graph, row_makers(graph, group)), (Labels{"up_proj", "gate_proj"}));
}

TEST(ChannelGroups, AProductThatOthersReadStays) {
  const Graph graph = gated_mlp(true);
  const ChannelGroup group = read_by(graph, "down_proj");
  EXPECT_EQ(group.why_not, "a residual branch reads this value");
  EXPECT_EQ(labels(graph, group.others), (Labels{"add"}));
  EXPECT_TRUE(row_makers(graph, group).empty());
}

TEST(ChannelGroups, AFactorReadTwiceTakesNothing) {
  GraphBuilder g;
  const ValueId up = g.linear("up_proj", "up", embedded(g), 6);
  g.output("out", g.linear("down_proj", "down", g.multiply(up, up), 8));
  const Graph graph = g.take();
  EXPECT_TRUE(read_by(graph, "down_proj").producers.empty()) << "it would count twice";
}

/// Two linears with an activation between them.
Graph plain_mlp(ActivationKind kind) {
  GraphBuilder g;
  const ValueId x = g.layer_norm("mlp_norm", "norm", embedded(g), 1e-5);
  const ValueId wide = g.activation(kind, g.linear("fc1", "fc1", x, 12));
  g.output("out", g.linear("fc2", "fc2", wide, 8));
  return g.take();
}

TEST(ChannelGroups, AReluLetsAScaleThrough) {
  const Graph graph = plain_mlp(ActivationKind::kRelu);
  EXPECT_TRUE(read_by(graph, "fc2").producers.empty()) << "only where asked for";
  const ChannelGroup group = read_by(graph, "fc2", {.through_relu = true});
  EXPECT_EQ(labels(graph, group.passers), (Labels{"activation"}));
  ASSERT_EQ(labels(graph, group.producers), (Labels{"fc1"}));
  EXPECT_EQ(group.producers.front().change, ChannelChange::kScale);
  EXPECT_EQ(group.producers.front().map.own_size(), 12);
}

TEST(ChannelGroups, AGeluLetsNothingThroughButKeepsChannelsApart) {
  const Graph graph = plain_mlp(ActivationKind::kGelu);
  const ChannelGroup group = read_by(graph, "fc2", {.through_relu = true});
  EXPECT_TRUE(group.producers.empty());
  EXPECT_EQ(group.why_not, "") << "a change can be written down";
  EXPECT_EQ(labels(graph, row_makers(graph, group)), (Labels{"fc1"}));
  EXPECT_TRUE(row_makers(graph, read_by(graph, "fc1")).empty()) << "a norm's width is fixed";
}

TEST(ChannelGroups, OthersWantTheOriginalMeaning) {
  GraphBuilder g;
  const ValueId x = g.layer_norm("norm", "norm", embedded(g), 1e-5);
  const ValueId y = g.linear("fc1", "fc1", x, 8);
  g.output("sum", g.add(x, y));
  g.output("normed", x);
  const Graph graph = g.take();
  const ChannelGroup group = read_by(graph, "fc1");
  EXPECT_EQ(labels(graph, group.consumers), (Labels{"fc1"}));
  EXPECT_EQ(labels(graph, group.others), (Labels{"add", "output"}));
  EXPECT_TRUE(group.others_read(x));
  EXPECT_EQ(group.why_not, "") << "it is restored for them";
}

TEST(ChannelGroups, FormsOfAValueAreTheValue) {
  Graph graph = plain_mlp(ActivationKind::kGelu);
  const ValueId x = graph.node(graph.find("fc1")).in[0];
  Tensor two = Tensor::f32({8});
  for (float& v : two.f32()) v = 2;
  divide_explicitly(graph, x, two, Tensor());
  set_input_quant(graph, x, {}, false, [](const Node&) { return true; });
  ASSERT_NE(graph.node(graph.find("fc1")).in[0], x);

  const ChannelGroup group = read_by(graph, "fc1");
  EXPECT_EQ(group.values, (std::vector<ValueId>{x}));
  EXPECT_EQ(labels(graph, group.producers), (Labels{"mlp_norm"}));
  EXPECT_EQ(labels(graph, group.consumers), (Labels{"fc1"}));
  EXPECT_TRUE(group.others.empty());
}

/// Two layers with the weights of one, as ALBERT has them.
Graph shared_layers(bool same_step) {
  GraphBuilder g;
  ValueId h = embedded(g);
  for (int l = 0; l < 2; ++l) {
    const auto layer = g.layer(l, "layer");
    const ValueId x = g.layer_norm("norm", "norm", h, 1e-5);
    const ActivationKind kind = l == 0 || same_step ? ActivationKind::kRelu : ActivationKind::kGelu;
    h = g.linear("fc2", "fc2", g.activation(kind, g.linear("fc1", "fc1", x, 12)), 8);
  }
  g.output("out", h);
  return g.take();
}

TEST(ChannelGroups, SharedWeightsTieValues) {
  const Graph graph = shared_layers(true);
  const ChannelGroup normed = read_by(graph, "layers.0.fc1");
  EXPECT_EQ(normed.values.size(), 2U);
  EXPECT_EQ(labels(graph, normed.producers), (Labels{"layers.0.norm", "layers.1.norm"}));
  EXPECT_EQ(labels(graph, normed.consumers), (Labels{"layers.0.fc1"})) << "one for each matrix";
  EXPECT_EQ(normed.producer_of(normed.values[1])->node, graph.find("layers.1.norm"));

  const ChannelGroup wide = read_by(graph, "layers.1.fc2", {.through_relu = true});
  EXPECT_EQ(wide.values.size(), 2U);
  EXPECT_EQ(labels(graph, wide.producers), (Labels{"layers.0.fc1", "layers.1.fc1"}));
  EXPECT_TRUE(row_makers(graph, wide).empty());
}

TEST(ChannelGroups, SharedRowsNeedTheSameStepEverywhere) {
  const Graph graph = shared_layers(false);
  EXPECT_TRUE(read_by(graph, "layers.0.fc2", {.through_relu = true}).producers.empty());
}

TEST(ChannelGroups, ATiedHeadRefuses) {
  GraphBuilder g;
  const ValueId x = g.layer_norm("final_norm", "norm", embedded(g), 1e-5);
  const ParamOptions tied = {.role = Role::kLmHead, .tied_to = "embed"};
  g.output("logits", g.linear("lm_head", "lm_head", x, 10, tied));
  Graph graph = g.take();
  EXPECT_EQ(read_by(graph, "lm_head").why_not, "a matrix that is tied to the embedding reads it");
  EXPECT_TRUE(read_by(graph, "lm_head").consumers.empty());

  graph.untie(graph.node(graph.find("lm_head")).param);
  EXPECT_EQ(read_by(graph, "lm_head").why_not, "");
  EXPECT_EQ(labels(graph, read_by(graph, "lm_head").consumers), (Labels{"lm_head"}));
}

TEST(ChannelGroups, ATableTakesAChangeInItsColumnsWhereItIsNothingElse) {
  GraphBuilder g;
  const ValueId h = g.linear("project_in", "project_in", embedded(g), 6);
  const ParamOptions tied = {.tied_to = "embed"};
  const ValueId back = g.linear("project_out", "project_out", h, 8);
  g.output("logits", g.linear("lm_head", "lm_head", back, 10, tied));
  Graph graph = g.take();
  EXPECT_TRUE(read_by(graph, "project_in").producers.empty()) << "the head would change";

  graph.untie(graph.node(graph.find("lm_head")).param);
  const ChannelGroup group = read_by(graph, "project_in");
  ASSERT_EQ(labels(graph, group.producers), (Labels{"word_embeddings"}));
  EXPECT_EQ(group.producers.front().axis, ChannelAxis::kColumns);
}

TEST(ChannelGroups, ConstantsCannotChange) {
  GraphBuilder g;
  const ValueId x = g.layer_norm("norm", "norm", embedded(g), 1e-5);
  g.output("out", g.linear("key", "key", x, 8));
  g.output("relative", g.linear("key", "key", g.table("relative", "relative", {4, 8}), 8));
  const Graph graph = g.take();
  const ChannelGroup group = channel_group(graph, x);
  EXPECT_NE(group.why_not.find("relative embeddings"), std::string::npos);
  EXPECT_EQ(group.values, (std::vector<ValueId>{x}));
}

// Ops as somebody outside would add them.

Tensor copy(OpCall& call) { return Tensor::copy_of(call.in(0)); }

ChannelPass pass_scale(const Node&) { return {.change = ChannelChange::kScale}; }

ValueType infer_rows(const Graph& graph, const Node& node) {
  return with_columns(graph, node, graph.param(node.param).shape[0]);
}

const OpDef op_silent = {.name = "silent", .infer = like_operand, .reference = copy};
const OpDef op_kept = {.name = "kept",
                       .infer = like_operand,
                       .channels = {.kind = ChannelKind::kEach, .pass = pass_scale},
                       .reference = copy};
const OpDef op_matrix = {.name = "matrix",
                         .infer = infer_rows,
                         .channels = {.kind = ChannelKind::kMatrix},
                         .reference = copy};

Graph with_op_between(const OpDef& op) {
  GraphBuilder g;
  const ValueId x = g.node(op, {g.linear("fc1", "fc1", embedded(g), 12)});
  g.output("out", g.linear("fc2", "fc2", x, 8));
  return g.take();
}

TEST(ChannelGroups, AnOpThatSaysNothingIsAWall) {
  const Graph graph = with_op_between(op_silent);
  const ChannelGroup behind = read_by(graph, "fc2", {.through_relu = true});
  EXPECT_TRUE(behind.producers.empty());
  EXPECT_TRUE(row_makers(graph, behind).empty());
  const ChannelGroup before = read_by(graph, "silent");
  EXPECT_EQ(labels(graph, before.others), (Labels{"silent"}));
  EXPECT_TRUE(before.consumers.empty());
}

TEST(ChannelGroups, AnOpFromOutsideTakesPart) {
  const Graph graph = with_op_between(op_kept);
  const ChannelGroup group = read_by(graph, "fc2", {.through_relu = true});
  EXPECT_EQ(labels(graph, group.passers), (Labels{"kept"}));
  EXPECT_EQ(labels(graph, group.producers), (Labels{"fc1"}));
  EXPECT_EQ(labels(graph, row_makers(graph, group)), (Labels{"fc1"}));
}

TEST(ChannelGroups, AMatrixFromOutsideUndoesAChange) {
  GraphBuilder g;
  const ValueId x = g.layer_norm("norm", "norm", embedded(g), 1e-5);
  g.output("a", g.linear("fc1", "fc1", x, 6));
  g.output("b", g.node_with(op_matrix, "other", "other", {x}, {5, 8}, {}, {}));
  Graph graph = g.take();
  const ChannelGroup group = read_by(graph, "fc1");
  EXPECT_EQ(labels(graph, group.consumers), (Labels{"fc1", "other"}));
  EXPECT_TRUE(group.others.empty());

  Tensor two = Tensor::f32({8});
  for (float& v : two.f32()) v = 2;
  restore_for_others(graph, x, two, Tensor());
  EXPECT_EQ(graph.node(graph.find("other")).in[0], x) << "nothing is restored for it";
}

/// A batch norm takes a change in its elements; a convolution reads the original meaning.
TEST(ChannelGroups, BatchNormsAbsorbAndConvolutionsUndo) {
  GraphBuilder g;
  const ValueId x = g.image({.channels = 3, .size = {8, 8}});
  const ValueId normed = g.batch_norm("norm1", "bn1", g.conv2d("conv1", "conv1", x, 4, {}), 1e-5);
  const ValueId pooled = g.node(op_global_mean, {normed});
  g.output("scores", g.linear("fc", "fc", pooled, 2));
  g.output("map", g.conv2d("conv2", "conv2", normed, 4, {}));
  const ConvAttributes padded{
      .window = {.kernel_height = 3, .kernel_width = 3, .padding = {1, 1, 1, 1}}};
  g.output("padded", g.conv2d("conv3", "conv3", normed, 4, padded));
  const Graph graph = g.take();

  const ChannelGroup group = read_by(graph, "conv2");
  EXPECT_EQ(labels(graph, group.producers), (Labels{"norm1"}));
  EXPECT_EQ(group.producers.front().axis, ChannelAxis::kElements);
  EXPECT_EQ(labels(graph, group.consumers), (Labels{"conv2", "conv3"}));
  EXPECT_EQ(group.consumers[0].change, ChannelChange::kScaleAndShift);
  EXPECT_EQ(group.consumers[1].change, ChannelChange::kScale)
      << "what lies around the image would have to be shifted too";
  EXPECT_EQ(labels(graph, group.others), (Labels{"global_mean"}));
}

}  // namespace
}  // namespace quell
