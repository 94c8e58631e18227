// `quell inspect --kernels` on networks of convolutions: bytes that pass between operators, counted
// by hand.
#include <gtest/gtest.h>

#include "quell/base/random.h"
#include "quell/compress/compress.h"
#include "quell/engine/executor.h"
#include "quell/engine/fuse.h"
#include "quell/engine/traffic.h"
#include "quell/graph/op.h"
#include "quell/io/json.h"
#include "quell/io/output_file.h"
#include "quell/io/safetensors.h"
#include "quell/job/memory_traffic.h"
#include "quell/model/image_input.h"
#include "tests/support/support.h"

namespace quell {
namespace {

/// Of 8 x 6 pixels with 3 channels.
Model make_network(const char* nodes) {
  const std::string description =
      std::string(R"({"input": [3, 8, 6], "classes": 2, "graph": [)") + nodes + "]}";
  const std::map<std::string, Shape> shapes = {
      {"a.weight", {6, 3, 3, 3}}, {"a.bias", {6}}, {"b.weight", {6, 1, 3, 3}}, {"b.bias", {6}},
      {"c.weight", {6, 6, 1, 1}}, {"c.bias", {6}}, {"fc.weight", {2, 6}}};
  Random random(7);
  std::map<std::string, Tensor> weights;
  for (const auto& [name, shape] : shapes) {
    Tensor t = Tensor::f32(shape);
    for (float& v : t.f32()) v = static_cast<float>(2 * random.uniform() - 1);
    weights[name] = std::move(t);
  }
  const Checkpoint checkpoint = Checkpoint::in_memory(std::move(weights));
  const quell::testing::ScratchDir dir;
  write_safetensors(dir / "model.safetensors", checkpoint.tensors());
  write_text_file(dir / "config.json", description);
  return load_model(Checkpoint::open(dir.path()));
}

void quantize(Model& model, const std::string& scheme, ExecContext& ctx) {
  std::vector<float> pixels;
  Random random(8);
  for (int i = 0; i < 4 * 3 * 8 * 6; ++i)
    pixels.push_back(static_cast<float>(2 * random.uniform() - 1));
  Recipe recipe = load_recipe("images");
  set_scheme(recipe, scheme);
  compress(model, {make_image_batch(model, std::move(pixels))}, recipe, ctx);
}

constexpr const char* kInverted = R"(
  {"op": "conv", "inp": ["x"], "out": "a", "weight": "a.weight", "bias": "a.bias",
   "stride": [1, 1], "pad": [1, 1, 1, 1], "act": "relu6"},
  {"op": "conv", "inp": ["a"], "out": "b", "weight": "b.weight", "bias": "b.bias",
   "stride": [1, 1], "pad": [1, 1, 1, 1], "groups": 6, "act": "relu"},
  {"op": "conv", "inp": ["b"], "out": "c", "weight": "c.weight", "bias": "c.bias",
   "stride": [1, 1], "pad": [0, 0, 0, 0]},
  {"op": "add", "inp": ["c", "a"], "out": "sum"},
  {"op": "global_avg_pool", "inp": ["sum"], "out": "mean"},
  {"op": "linear", "inp": ["mean"], "out": "logits", "weight": "fc.weight"})";

constexpr const char* kWithHardswish = R"(
  {"op": "conv", "inp": ["x"], "out": "a", "weight": "a.weight", "bias": "a.bias",
   "stride": [1, 1], "pad": [1, 1, 1, 1], "act": "hardswish"},
  {"op": "conv", "inp": ["a"], "out": "b", "weight": "b.weight", "bias": "b.bias",
   "stride": [1, 1], "pad": [1, 1, 1, 1], "groups": 6, "act": "relu"},
  {"op": "conv", "inp": ["b"], "out": "c", "weight": "c.weight", "bias": "c.bias",
   "stride": [1, 1], "pad": [0, 0, 0, 0]})";

std::int64_t pixels_of(const Graph& graph, const Node& node) {
  const RowSpace& rows = graph.value(node.out).type.rows;
  return rows.kind == RowSpace::Kind::kImage ? rows.height * rows.width : 1;
}

std::map<std::string, OperatorTraffic> by_name(const Model& model, ExecContext& ctx) {
  std::map<std::string, OperatorTraffic> out;
  for (const OperatorTraffic& t : describe_traffic(model, ctx)) out[t.name] = t;
  return out;
}

TEST(MemoryTraffic, CodesPassFromTheImageToTheMean) {
  ExecContext ctx(1);
  Model model = make_network(kInverted);
  quantize(model, "W8A8", ctx);
  const auto traffic = by_name(model, ctx);
  // 48 pixels: 3 channels lie 4 bytes apart, 6 lie 8 bytes apart.
  const OperatorTraffic& image = describe_traffic(model, ctx).front();
  EXPECT_EQ(image.operands, 48 * 3 * 4) << "the caller's pixels";
  EXPECT_EQ(image.output, 48 * 4);
  EXPECT_EQ(image.ideal, 48 * 3 * 4 + 48 * 3);

  const OperatorTraffic& a = traffic.at("a");
  EXPECT_EQ(a.operands, 48 * 4);
  EXPECT_EQ(a.output, 48 * 8);
  EXPECT_GE(a.weights, 6 * 27);
  EXPECT_EQ(a.ideal, 48 * 3 + 6 * 27 + 48 * 6);

  const OperatorTraffic& c = traffic.at("c");
  EXPECT_EQ(c.residual, 48 * 8) << c.what;
  EXPECT_EQ(c.output, 48 * 8) << c.what;
  EXPECT_EQ(c.ideal, 3 * 48 * 6 + 36);
  for (const auto& [name, t] : traffic) {
    EXPECT_EQ(name == "logits" ? 0 : t.converted, 0) << name;
    EXPECT_GE(t.all(), t.ideal) << name;
  }
}

TEST(MemoryTraffic, FloatsBetweenOperatorsAreSeen) {
  ExecContext ctx(1);
  Model model = make_network(kWithHardswish);
  quantize(model, "W4A8", ctx);
  const auto traffic = by_name(model, ctx);
  EXPECT_EQ(traffic.at("a").output, 48 * 6 * 4) << traffic.at("a").what;
  EXPECT_EQ(traffic.at("b").converted, 48 * 6 * 4 + 48 * 8) << "f32 read, codes written";
  EXPECT_EQ(traffic.at("b").operands, 48 * 8);
  EXPECT_EQ(traffic.at("b").ideal, 48 * 6 + 6 * 9 / 2 + 48 * 6) << "weights of four bits";
  EXPECT_EQ(traffic.at("c").output, 48 * 6 * 4);
  EXPECT_EQ(traffic.at("c").ideal, 48 * 6 + 18 + 48 * 6 * 4) << "the caller wants f32";
}

TEST(MemoryTraffic, AFloatModelMovesFourBytesAValue) {
  ExecContext ctx(1);
  const Model model = make_network(kInverted);
  const auto traffic = by_name(model, ctx);
  const OperatorTraffic& b = traffic.at("b");
  EXPECT_EQ(b.operands, 48 * 6 * 4);
  EXPECT_EQ(b.weights, 6 * 9 * 4);
  EXPECT_EQ(b.output, 48 * 6 * 4);
  EXPECT_EQ(b.ideal, 2 * 48 * 6 + 54);
}

/// What the interpreter leaves behind each operator is what was foretold.
void expect_outputs_as_run(const Model& model, ExecContext& ctx) {
  const std::vector<OperatorTraffic> foretold = describe_traffic(model, ctx);
  const LoweredOps integer(model, ctx.isa);
  const Graph graph = integer.fuse();
  const OpTable none;
  const TokenBatch batch = make_image_batch(model, std::vector<float>(3 * 8 * 6, 0.25F));
  Executor executor(model, none, true, batch, ctx, &graph);
  executor.keep_values = true;

  std::size_t at = 0;
  for (const NodeId n : graph.order()) {
    const Node& node = graph.node(n);
    executor.run(n);
    if (node.op->view) continue;

    std::int64_t written =
        static_cast<std::int64_t>(sizeof(float)) *
        (executor.value(node.out).defined() ? executor.value(node.out).numel() : 0);
    if (executor.has_codes(node.out))
      written += pixels_of(graph, node) * executor.code_stride(node.out);
    ASSERT_LT(at, foretold.size());
    EXPECT_EQ(foretold[at].output, written) << node.label;
    EXPECT_EQ(foretold[at].name, node.label);
    ++at;
  }
  EXPECT_EQ(at, foretold.size());
}

TEST(MemoryTraffic, IsWhatTheInterpreterDoes) {
  ExecContext ctx(1);
  for (const char* nodes : {kInverted, kWithHardswish}) {
    Model model = make_network(nodes);
    quantize(model, "W8A8", ctx);
    expect_outputs_as_run(model, ctx);
  }
}

TEST(MemoryTraffic, SumsAndTable) {
  ExecContext ctx(1);
  Model model = make_network(kInverted);
  quantize(model, "W8A8", ctx);
  const Json json = describe_memory_traffic(model, ctx);
  std::int64_t all = 0;
  std::int64_t ideal = 0;
  for (const OperatorTraffic& t : describe_traffic(model, ctx)) {
    all += t.all();
    ideal += t.ideal;
  }
  EXPECT_EQ(json["all"], all);
  EXPECT_EQ(json["ideal"], ideal);
  const std::string text = memory_traffic_text(json);
  EXPECT_NE(text.find("conv2d + residual, writes codes"), std::string::npos) << text;
  EXPECT_NE(text.find(std::to_string(all)), std::string::npos) << text;
}

TEST(MemoryTraffic, ModelsOfTextHaveNone) {
  ExecContext ctx(1);
  const Model model = load_model(Checkpoint::open(quell::testing::kReviews / "model"));
  EXPECT_TRUE(describe_traffic(model, ctx).empty());
  EXPECT_TRUE(describe_memory_traffic(model, ctx).is_null());
}

TEST(MemoryTraffic, IdealWeightsOfTwoBitsTakeAQuarterOfAByte) {
  ExecContext ctx(1);
  Model model = make_network(kInverted);
  quantize(model, "W2A8", ctx);
  const auto traffic = by_name(model, ctx);
  EXPECT_EQ(traffic.at("c").ideal, 3 * 48 * 6 + 36 / 4);
  EXPECT_EQ(traffic.at("b").ideal, 2 * 48 * 6 + (6 * 9 + 3) / 4);
}

}  // namespace
}  // namespace quell
