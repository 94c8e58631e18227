// Quantized networks of convolutions in which a value or a weight has several readers.
#include <gtest/gtest.h>

#include <fstream>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/compress/compress.h"
#include "quell/compress/product_inputs.h"
#include "quell/engine/lower.h"
#include "quell/exporting/compressed_tensors.h"
#include "quell/exporting/float_checkpoint.h"
#include "quell/graph/image_ops.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "quell/job/quantize_job.h"
#include "quell/model/image_input.h"
#include "quell/ops/convolution.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

constexpr std::int64_t kChannels = 8;

Json conv(const std::string& in, const std::string& out, const std::string& weight,
          const std::string& activation = "") {
  Json node = {{"op", "conv"},     {"inp", {in}},
               {"out", out},       {"weight", weight + ".weight"},
               {"stride", {1, 1}}, {"pad", {1, 1, 1, 1}}};
  if (!activation.empty()) node["act"] = activation;
  return node;
}

class ImageNetworks : public ::testing::Test {
 protected:
  /// Behind `nodes`, the mean of `last` is the only output.
  Model load(Json nodes, const std::string& last) {
    std::map<std::string, Tensor> tensors;
    Random random(3);
    for (const Json& node : nodes) {
      if (!node.contains("weight")) continue;
      const std::int64_t in = node["inp"][0] == "x" ? 3 : kChannels;
      Tensor& t = tensors[node["weight"].get<std::string>()];
      t = Tensor::f32({kChannels, in, 3, 3});
      for (float& v : t.f32()) v = static_cast<float>(random.uniform() - 0.4);
      // Channels of different sizes, which the weights behind make up for.
      constexpr float kSizes[] = {10, 1, 0.1F, 1, 3, 1, 1, 0.3F};
      for (std::int64_t i = 0; i < t.numel(); ++i) {
        float& w = t.f32()[static_cast<std::size_t>(i)];
        w = in == 3 ? w * kSizes[i / 27] : w / kSizes[i / 9 % kChannels];
      }
    }
    nodes.push_back({{"op", "global_avg_pool"}, {"inp", {last}}, {"out", "mean"}});
    const Json config = {{"input", {3, 12, 12}}, {"graph", nodes}, {"outputs", {{"mean", ""}}}};

    std::map<std::string, TensorView> views;
    for (const auto& [name, t] : tensors) views[name] = t;
    fs::create_directories(scratch_ / "net");
    write_safetensors(scratch_ / "net" / "model.safetensors", views);
    std::ofstream(scratch_ / "net" / "config.json") << config.dump();
    return load_model(Checkpoint::open(scratch_ / "net"));
  }
  /// A network of these nodes, with random weights of these shapes.
  Model load_with(const Json& nodes, const std::map<std::string, Shape>& shapes) {
    std::map<std::string, Tensor> tensors;
    std::map<std::string, TensorView> views;
    Random random(3);
    for (const auto& [name, shape] : shapes) {
      Tensor& t = tensors[name] = Tensor::f32(shape);
      for (float& v : t.f32()) v = static_cast<float>(random.uniform() - 0.4);
      views[name] = t;
    }
    fs::create_directories(scratch_ / "net");
    write_safetensors(scratch_ / "net" / "model.safetensors", views);
    std::ofstream(scratch_ / "net" / "config.json")
        << Json{{"input", {3, 12, 12}}, {"graph", nodes}}.dump();
    return load_model(Checkpoint::open(scratch_ / "net"));
  }
  static TokenBatch images(const Model& model, int count) {
    Random random(5);
    std::vector<float> pixels;
    for (int i = 0; i < count * 3 * 12 * 12; ++i)
      pixels.push_back(static_cast<float>(2 * random.uniform() - 1));
    return make_image_batch(model, std::move(pixels));
  }
  void quantize(Model& model, const std::string& passes) {
    const std::string recipe =
        "{scheme: W8A8, weights: {symmetric: true, granularity: channel}, passes: [" + passes +
        "]}";
    compress(model, {images(model, 8)}, parse_recipe(recipe, "test"), ctx_);
  }
  Tensor mean_of(const ForwardModel& model, const TokenBatch& batch) {
    ForwardOutputs outputs;
    model.forward(batch, outputs, ctx_);
    return std::move(outputs.values.at("mean"));
  }

  quell::testing::ScratchDir scratch_;
  ExecContext ctx_{2};
};

TEST_F(ImageNetworks, AMaxPoolBesideAConvolutionSeesWhatIsRestored) {
  Model model =
      load({conv("x", "stem", "stem"),
            conv("stem", "a", "a"),
            {{"op", "max_pool"}, {"inp", {"stem"}}, {"out", "pooled"}, {"stride", {1, 1}}},
            conv("pooled", "b", "b"),
            {{"op", "add"}, {"inp", {"a", "b"}}, {"out", "sum"}}},
           "sum");
  quantize(model, "os_plus, rtn");
  ASSERT_TRUE(model.graph.has(op_restore));
  const TokenBatch batch = images(model, 3);
  const Tensor simulated = mean_of(*make_simulated_model(model, true, ctx_.isa), batch);
  const Tensor integer = mean_of(*lower(model, ctx_), batch);
  for (std::size_t i = 0; i < simulated.f32().size(); ++i)
    EXPECT_EQ(simulated.f32()[i], integer.f32()[i]) << i;
}

TEST_F(ImageNetworks, MeansAreReadBackAsTheyWere) {
  Model model =
      load({conv("x", "stem", "stem"),
            {{"op", "avg_pool"}, {"inp", {"stem"}}, {"out", "pooled"}, {"stride", {1, 1}}},
            conv("stem", "a", "a"),
            {{"op", "add"}, {"inp", {"stem", "a", "pooled"}}, {"out", "sum"}}},
           "sum");
  quantize(model, "os_plus, rtn");  // residual branches in f32
  export_compressed_tensors(model, scratch_ / "out", true);
  const Model read = load_model(Checkpoint::open(scratch_ / "out"));
  const TokenBatch batch = images(model, 3);
  const Tensor before = mean_of(*make_simulated_model(model, true, ctx_.isa), batch);
  const Tensor after = mean_of(*make_simulated_model(read, true, ctx_.isa), batch);
  for (std::size_t i = 0; i < before.f32().size(); ++i)
    EXPECT_EQ(before.f32()[i], after.f32()[i]) << i;
}

TEST_F(ImageNetworks, AFloatCheckpointHoldsNoBoundsOfChannels) {
  Model model = load({conv("x", "stem", "stem", "relu6"), conv("stem", "a", "a")}, "a");
  quantize(model, "cross_layer_equalization, rtn");
  ASSERT_TRUE(model.graph.has(op_clamp));
  try {
    export_float_checkpoint(model, scratch_ / "out", false);
    FAIL() << "it is written";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("a bound for each channel (stem.act)"), std::string::npos)
        << e.what();
  }
}

/// What no convolution is part of is a network of images all the same: the recipe `images` is the
/// default, heads have codes, and what is written is read back.
TEST_F(ImageNetworks, TransposedConvolutionsOrLinearsAloneAreNetworksToo) {
  struct Case {
    const char* nodes;
    std::map<std::string, Shape> shapes;
  };
  const Case cases[] = {
      {R"([{"op": "conv_transpose", "inp": ["x"], "out": "up", "weight": "up.weight",
            "stride": [2, 2], "pad": [0, 0, 0, 0], "act": "relu"},
           {"op": "conv_transpose", "inp": ["up"], "out": "wide", "weight": "wide.weight",
            "stride": [1, 1], "pad": [0, 0, 0, 0]},
           {"op": "global_avg_pool", "inp": ["wide"], "out": "mean"}])",
       {{"up.weight", {3, 8, 2, 2}}, {"wide.weight", {8, 6, 2, 2}}}},
      {R"([{"op": "global_avg_pool", "inp": ["x"], "out": "pool"},
           {"op": "linear", "inp": ["pool"], "out": "mean", "weight": "fc.weight"}])",
       {{"fc.weight", {5, 3}}}},
      {R"([{"op": "linear", "inp": ["x"], "out": "pixels", "weight": "a.weight", "act": "relu"},
           {"op": "global_avg_pool", "inp": ["pixels"], "out": "pool"},
           {"op": "linear", "inp": ["pool"], "out": "mean", "weight": "fc.weight"}])",
       {{"a.weight", {8, 3}}, {"fc.weight", {5, 8}}}}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.nodes);
    Model model = load_with(parse_json(c.nodes, "test"), c.shapes);
    const std::string recipe = default_recipe(ModelDirectory(scratch_ / "net"));
    EXPECT_EQ(recipe, "images");
    compress(model, {images(model, 8)}, load_recipe(recipe), ctx_);
    for (const Param& p : model.params) EXPECT_TRUE(p.quantized.has_value()) << p.module;

    const TokenBatch batch = images(model, 3);
    const Tensor simulated = mean_of(*make_simulated_model(model, true, ctx_.isa), batch);
    EXPECT_TRUE(quell::testing::same_bytes(simulated, mean_of(*lower(model, ctx_), batch)));
    const ExportSummary summary = export_compressed_tensors(model, scratch_ / "out", true);
    const Model read = load_model(Checkpoint::open(scratch_ / "out"));
    EXPECT_TRUE(quell::testing::same_bytes(simulated, mean_of(*lower(read, ctx_), batch)));
  }
}

/// A comparison of infinities or NaN says nothing: it must not pass.
TEST_F(ImageNetworks, SiteOutputsThatOverflowAreRefused) {
  Model model = load({conv("x", "stem", "stem", "relu"), conv("stem", "a", "a", "sigmoid")}, "a");
  for (Param& p : model.params)
    for (float& w : p.weight.f32()) w = 1e22F;
  try {
    quantize(model, "cross_layer_equalization, rtn");
    FAIL() << "it passes";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(),
                 "a: its float output holds NaN or infinity; the model or the calibration data is "
                 "damaged");
  }
}

TEST_F(ImageNetworks, AWeightThatSeesImagesOfTwoSizesSeesEachAsItIs) {
  Json nodes = {conv("x", "stem", "stem"),
                conv("stem", "a", "w"),
                {{"op", "max_pool"}, {"inp", {"a"}}, {"out", "pooled"}},
                conv("pooled", "b", "w")};
  const Model model = load(nodes, "b");
  const std::vector<Site> sites = derive_sites(model, {});
  const auto shared = std::find_if(sites.begin(), sites.end(),
                                   [](const Site& site) { return site.values.size() == 2; });
  ASSERT_NE(shared, sites.end());

  Random random(7);
  std::vector<Tensor> x;
  SiteActivations activations;
  const TokenBatch batch = images(model, 2);
  for (const ChangedValue& v : shared->values) {
    const RowSpace& rows = model.graph.value(v.value).type.rows;
    Tensor& t = x.emplace_back(Tensor::f32({2 * rows.height * rows.width, kChannels}));
    for (float& value : t.f32()) value = static_cast<float>(random.uniform());
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    activations.x.push_back(&x[i]);
    activations.batches.push_back(&batch);
    activations.values.push_back(shared->values[i].value);
  }
  SiteMoments moments(*shared, activations, ctx_);
  const Tensor& gram = moments.of(shared->linears.front(), MeanInputs::kKept).front().gram;

  std::vector<double> squares(static_cast<std::size_t>(gram.rows()));
  const std::vector<NodeId>& users =
      model.graph.users(model.graph.node(shared->linears.front()).param);
  ASSERT_EQ(users.size(), x.size());
  for (std::size_t i = 0; i < users.size(); ++i)
    for_each_patch_block(std::vector{x[i].view()}, *conv_geometry(model.graph, users[i]), 0, ctx_,
                         [&](std::span<const Tensor> all) {
                           const Tensor& patches = all.front();
                           for (std::int64_t r = 0; r < patches.rows(); ++r)
                             for (std::size_t k = 0; k < squares.size(); ++k)
                               squares[k] += static_cast<double>(patches.row(r)[k]) *
                                             static_cast<double>(patches.row(r)[k]);
                         });
  for (std::int64_t k = 0; k < gram.rows(); ++k)
    EXPECT_NEAR(gram.row(k)[k], squares[static_cast<std::size_t>(k)], 1e-3) << k;
}

}  // namespace
}  // namespace quell
