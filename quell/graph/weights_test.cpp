// Matrices as values: who reads them, ties, and quantizers in front of readers.
#include <gtest/gtest.h>

#include "quell/graph/builder.h"
#include "quell/graph/forms.h"

namespace quell {
namespace {

/// A table, a linear, and a head that is tied to the table.
Graph tied_head() {
  GraphBuilder g;
  const ValueId h = g.embedding("word_embeddings", "embed", g.token_ids(), {10, 8});
  const ValueId y = g.linear("fc1", "fc1", g.layer_norm("norm", "norm", h, 1e-5), 8);
  g.hidden_state(y);
  g.begin_head();
  g.output("logits", g.linear("lm_head", "lm_head", y, 10, {.tied_to = "embed"}));
  return g.take();
}

const Node& node(const Graph& graph, std::string_view label) {
  return graph.node(graph.find(label));
}

QuantSpec bits(int count) {
  QuantSpec spec;
  spec.num_bits = count;
  return spec;
}

TEST(Weights, AreValuesThatNodesRead) {
  const Graph graph = tied_head();
  const Node& fc1 = node(graph, "fc1");
  const ValueId matrix = fc1.in[kLinearWeight];
  EXPECT_EQ(matrix, graph.weight(fc1.param));
  EXPECT_EQ(graph.weight_operand(fc1), matrix);
  EXPECT_TRUE(graph.is_weight(matrix));
  EXPECT_TRUE(graph.is_constant(matrix));
  EXPECT_FALSE(graph.is_constant(fc1.out));
  EXPECT_EQ(graph.value(matrix).type.rows.rows, 8);
  EXPECT_EQ(graph.weight_operand(node(graph, "norm")), kNoValue) << "a vector is the node's own";
}

TEST(Weights, ATiedHeadReadsTheTable) {
  Graph graph = tied_head();
  const ValueId table = node(graph, "word_embeddings").in[1];
  EXPECT_EQ(node(graph, "lm_head").in[kLinearWeight], table);
  EXPECT_EQ(graph.uses(table).size(), 2U);

  graph.untie(node(graph, "lm_head").param);
  const ValueId own = node(graph, "lm_head").in[kLinearWeight];
  EXPECT_NE(own, table);
  EXPECT_EQ(graph.value(own).param, node(graph, "lm_head").param);
  EXPECT_EQ(graph.uses(table), (std::vector<NodeId>{graph.find("word_embeddings")}));
  EXPECT_EQ(graph.uses(own), (std::vector<NodeId>{graph.find("lm_head")}));
}

TEST(Weights, AQuantizerStandsInFrontOfTheReadersOfOneName) {
  Graph graph = tied_head();
  const ParamId embed = node(graph, "word_embeddings").param;
  const ValueId table = graph.weight(embed);
  set_weight_quant(graph, embed, bits(8));

  const ValueId quantized = node(graph, "word_embeddings").in[1];
  EXPECT_TRUE(graph.is_from(quantized, op_quantize_weight));
  EXPECT_TRUE(graph.is_weight(quantized)) << "it is a form of the matrix";
  EXPECT_EQ(base_of(graph, quantized), table);
  EXPECT_EQ(node(graph, "lm_head").in[kLinearWeight], table) << "the head stays float";
  EXPECT_EQ(weight_quant_of(graph, embed)->num_bits, 8);
  EXPECT_EQ(weight_quant_of(graph, node(graph, "lm_head").param), nullptr);
  const NodeId quantizer = graph.producer(quantized);
  EXPECT_LT(graph.position(quantizer), graph.position(graph.find("word_embeddings")));

  const int nodes = graph.num_nodes();
  set_weight_quant(graph, embed, bits(4));
  EXPECT_EQ(graph.num_nodes(), nodes) << "it is the same one";
  EXPECT_EQ(weight_quant_of(graph, embed)->num_bits, 4);

  clear_weight_quants(graph);
  EXPECT_EQ(weight_quant_of(graph, embed), nullptr);
  EXPECT_EQ(node(graph, "word_embeddings").in[1], table);
  EXPECT_TRUE(graph.is_removed(quantizer));
}

TEST(Weights, TwoNamesOfAMatrixHaveQuantizersOfTheirOwn) {
  Graph graph = tied_head();
  const ParamId embed = node(graph, "word_embeddings").param;
  const ParamId head = node(graph, "lm_head").param;
  set_weight_quant(graph, embed, bits(8));
  set_weight_quant(graph, head, bits(4));
  EXPECT_EQ(weight_quant_of(graph, embed)->num_bits, 8);
  EXPECT_EQ(weight_quant_of(graph, head)->num_bits, 4);
  EXPECT_EQ(readers_of(graph, graph.weight(embed)).size(), 2U);
}

TEST(Weights, GoWithTheNodesThatAloneReadThem) {
  Graph graph = tied_head();
  const NodeId fc1 = graph.find("fc1");
  const ValueId norm = node(graph, "norm").out;
  graph.truncate(fc1);
  EXPECT_EQ(graph.num_params(), 2);
  EXPECT_EQ(graph.num_values(), norm + 1);
  EXPECT_EQ(graph.weight(node(graph, "word_embeddings").param),
            node(graph, "word_embeddings").in[1]);
}

TEST(Weights, AMatrixMustFit) {
  GraphBuilder g;
  const ValueId h = g.embedding("word_embeddings", "embed", g.token_ids(), {10, 8});
  const ValueId narrow = g.linear("fc1", "fc1", h, 4);
  EXPECT_ANY_THROW(g.linear("lm_head", "lm_head", narrow, 10, {.tied_to = "embed"}));
}

}  // namespace
}  // namespace quell
