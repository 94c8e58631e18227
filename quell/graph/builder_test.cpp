// What families say by builder calls: labels, parameters, scopes, row spaces, and what is refused.
#include "quell/graph/builder.h"

#include <gtest/gtest.h>

#include "quell/base/error.h"

namespace quell {
namespace {

/// Two layers of norm, attention and sum behind an embedding.
Graph small_decoder() {
  GraphBuilder g;
  ValueId h = g.embedding("word_embeddings", "model.embed", g.token_ids(), {10, 8});
  g.hidden_state(h);
  AttentionRecipe attention;
  attention.num_heads = attention.num_kv_heads = 2;
  attention.head_dim = 4;
  for (int l = 0; l < 2; ++l) {
    const auto layer = g.layer("model.layers", l);
    const ValueId x = g.rms_norm("attention_norm", "norm", h, 1e-6);
    const ValueId q = g.linear("q_proj", "attn.q", x, 8);
    const ValueId k = g.linear("k_proj", "attn.k", x, 8);
    const ValueId v = g.linear("v_proj", "attn.v", x, 8);
    const ValueId context = g.attention(attention, q, k, v);
    h = g.add(h, g.add(x, context));
    g.hidden_state(h);
  }
  g.output("last_hidden_state", h);
  g.begin_head();
  g.output("logits", g.linear("lm_head", "lm_head", h, 10,
                              {.role = Role::kLmHead, .tied_to = "model.embed"}));
  return g.take();
}

std::vector<std::string> labels_of(const Graph& graph) {
  std::vector<std::string> out;
  for (const Node& node : graph.nodes()) out.push_back(node.label);
  return out;
}

TEST(Builder, LabelsSayPlaceAndOpsAreCounted) {
  const Graph graph = small_decoder();
  const std::vector<std::string> expected = {"word_embeddings",
                                             "layers.0.attention_norm",
                                             "layers.0.q_proj",
                                             "layers.0.k_proj",
                                             "layers.0.v_proj",
                                             "layers.0.attention",
                                             "layers.0.add",
                                             "layers.0.add.1",
                                             "layers.1.attention_norm",
                                             "layers.1.q_proj",
                                             "layers.1.k_proj",
                                             "layers.1.v_proj",
                                             "layers.1.attention",
                                             "layers.1.add",
                                             "layers.1.add.1",
                                             "lm_head"};
  EXPECT_EQ(labels_of(graph), expected);
  EXPECT_EQ(graph.find("layers.1.v_proj"), 11);
  EXPECT_EQ(graph.find("layers.2.v_proj"), kNoNode);
}

TEST(Builder, ParametersAreNamedOnceAndTied) {
  const Graph graph = small_decoder();
  const ParamDef& key = graph.param(graph.node(graph.find("layers.1.k_proj")).param);
  EXPECT_EQ(key.weight_tensor(), "model.layers.1.attn.k.weight");
  EXPECT_EQ(key.shape, (Shape{8, 8}));
  const ParamDef& head = graph.param(graph.node(graph.find("lm_head")).param);
  ASSERT_NE(head.tied_to, kNoParam);
  EXPECT_EQ(graph.param(head.tied_to).module, "model.embed");
}

TEST(Builder, TheSameNameTwiceIsOneParameter) {
  GraphBuilder g;
  const ValueId h = g.embedding("word_embeddings", "embed", g.token_ids(), {4, 6});
  const ValueId a = g.linear("fc1", "shared", h, 6);
  g.linear("fc1", "shared", a, 6);
  EXPECT_THROW(g.linear("fc1", "shared", a, 7), Error) << "another shape";
  const Graph graph = g.take();
  EXPECT_EQ(graph.num_params(), 2);
  EXPECT_EQ(graph.users(1).size(), 2U);
}

TEST(Builder, PartsOfOneTensorAreParametersOfTheirOwn) {
  GraphBuilder g;
  const ValueId h = g.embedding("word_embeddings", "embed", g.token_ids(), {4, 6});
  for (int part = 0; part < 3; ++part)
    g.linear("q_proj", "qkv", h, 6, {.packing = {.part = part, .parts = 3}});
  const Graph graph = g.take();
  EXPECT_EQ(graph.num_params(), 4);
  EXPECT_EQ(graph.param(3).weight_tensor(), "qkv.weight");
}

TEST(Builder, StacksAreNamedWhereThereAreTwo) {
  GraphBuilder g;
  ValueId memory = kNoValue;
  {
    const auto encoder = g.encoder("encoder");
    memory = g.embedding("word_embeddings", "embed", g.token_ids(), {4, 6});
  }
  ValueId h = kNoValue;
  {
    const auto decoder = g.decoder("decoder");
    h = g.embedding("word_embeddings", "embed", g.token_ids(), {4, 6});
  }
  g.linear("lm_head", "lm_head", g.scale({0.5}, h), 4);
  const Graph graph = g.take();
  EXPECT_EQ(labels_of(graph),
            (std::vector<std::string>{"encoder.word_embeddings", "decoder.word_embeddings",
                                      "decoder.scale", "decoder.lm_head"}));
  EXPECT_EQ(graph.value(memory).type.rows.stack, 0);
  EXPECT_EQ(graph.value(h).type.rows.stack, 1);
  EXPECT_EQ(graph.param(0).module, "encoder.embed");
  EXPECT_TRUE(graph.is_encoder_decoder());
}

TEST(Builder, RowSpacesFollowTheOps) {
  GraphBuilder g;
  const ValueId h = g.embedding("word_embeddings", "embed", g.token_ids(), {4, 6});
  const ValueId first = g.select_first(h);
  EXPECT_EQ(g.graph().value(first).type.rows.kind, RowSpace::Kind::kSequences);
  EXPECT_THROW(g.select_first(first), Error) << "there are no tokens to select from";
  const ValueId relative = g.table("relative_embeddings", "relative", {8, 6});
  EXPECT_EQ(g.graph().value(relative).type.rows.rows, 8);
  const ValueId projected = g.linear("q_proj", "q", relative, 6);
  EXPECT_TRUE(g.graph().is_constant(projected));
  EXPECT_FALSE(g.graph().is_constant(h));
  EXPECT_EQ(g.columns(g.select_column(h, 3)), 1);
}

TEST(Builder, AttentionMustFitItsOperands) {
  GraphBuilder g;
  const ValueId h = g.embedding("word_embeddings", "embed", g.token_ids(), {4, 6});
  AttentionRecipe attention;
  attention.num_heads = attention.num_kv_heads = 2;
  attention.head_dim = 4;
  EXPECT_THROW(g.attention(attention, h, h, h), Error) << "8 columns asked for, 6 there";
  attention.head_dim = 3;
  attention.alibi = true;
  EXPECT_THROW(g.attention(attention, h, h, h), Error) << "no positions";
  EXPECT_NO_THROW(g.attention(attention, h, h, h, {.positions = g.position_ids({})}));
}

TEST(Graph, UsesProducersAndOutputs) {
  const Graph graph = small_decoder();
  const NodeId norm = graph.find("layers.0.attention_norm");
  const ValueId normed = graph.node(norm).out;
  EXPECT_EQ(graph.producer(normed), norm);
  EXPECT_EQ(graph.uses(normed), (std::vector<NodeId>{2, 3, 4, 6}));
  EXPECT_EQ(graph.last_use(normed), 6);
  EXPECT_TRUE(graph.is_from(normed, op_norm));
  EXPECT_FALSE(graph.is_output(normed));
  EXPECT_TRUE(graph.is_output(graph.node(graph.num_nodes() - 1).out));
  EXPECT_EQ(graph.blocks.size(), 2U);
  EXPECT_EQ(graph.blocks[1].begin, 8);
  EXPECT_EQ(graph.stacks.front().hidden_states.size(), 3U);
  EXPECT_EQ(describe_node(graph, norm), "layers.0.attention_norm = norm(word_embeddings)");
  EXPECT_EQ(describe_node(graph, 0), "word_embeddings = embedding(input_ids)");
}

TEST(Graph, AHeadCanBeLeftOut) {
  Graph graph = small_decoder();
  const int params = graph.num_params();
  graph.truncate(graph.head_begin);
  EXPECT_EQ(graph.num_nodes(), 15);
  EXPECT_EQ(graph.num_params(), params - 1);
  ASSERT_EQ(graph.outputs.size(), 1U);
  EXPECT_EQ(graph.outputs.front().first, "last_hidden_state");
  EXPECT_TRUE(graph.uses(graph.outputs.front().second).empty());
}

TEST(Graph, NamesOfOneTableBecomeOneParameter) {
  GraphBuilder g;
  g.shared_table("shared", {4, 6}, {"lm_head"});
  const ValueId h = g.embedding("word_embeddings", "encoder.embed", g.token_ids(), {4, 6},
                                {.tied_to = "shared", .only_if_different = true});
  g.linear("lm_head", "lm_head", h, 4, {.tied_to = "shared"});
  Graph graph = g.take();
  ASSERT_EQ(graph.num_params(), 3);
  graph.redirect_param(1, 0);
  graph.drop_params({1});
  ASSERT_EQ(graph.num_params(), 2);
  EXPECT_EQ(graph.param(0).module, "shared");
  EXPECT_EQ(graph.node(0).param, 0);
  EXPECT_EQ(graph.param(1).tied_to, 0);
}

TEST(Factors, AreRoundedOnceInF32) {
  EXPECT_EQ(inverse_sqrt_of(96).f32(), 1.0F / std::sqrt(96.0F));
  EXPECT_EQ(sqrt_of(2304).f32(), 48.0F);
  EXPECT_DOUBLE_EQ(inverse_sqrt_of(96).f64(), 1 / std::sqrt(96.0));
  Factor by_layer = inverse_sqrt_of(64);
  by_layer.divisor = 3;
  EXPECT_EQ(by_layer.f32(), 0.125F / 3.0F);
}

}  // namespace
}  // namespace quell
