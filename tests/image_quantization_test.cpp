// Networks of convolutions quantized: the float function stays, integers compute what the
// simulation does, and what is written is read back the same.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/compress/compress.h"
#include "quell/compress/product_inputs.h"
#include "quell/engine/lower.h"
#include "quell/exporting/compressed_tensors.h"
#include "quell/graph/image_ops.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "quell/job/quantize_job.h"
#include "quell/model/fold_batch_norm.h"
#include "quell/model/image_input.h"
#include "quell/ops/convolution.h"
#include "quell/vision/encode_png.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

using quell::testing::same_bytes;

/// A stem with a pool, an inverted residual with a depthwise convolution, one in groups, a shortcut
/// with a convolution of its own, a mean and a linear.
Json network() {
  Json json = parse_json(R"({"input": [3, 20, 18], "classes": 5,
    "preprocess": {"channels": "RGB", "scale": "divide by 255"}, "graph": [
    {"op": "conv", "inp": ["x"], "out": "stem", "weight": "stem.weight", "stride": [2, 1],
     "pad": [1, 1, 1, 1], "bn": "stem_bn", "bn_eps": 0.001, "act": "relu"},
    {"op": "max_pool", "inp": ["stem"], "out": "pooled", "kernel": [3, 3], "stride": [1, 2],
     "pad": [1, 1, 1, 1]},
    {"op": "conv", "inp": ["pooled"], "out": "expand", "weight": "expand.weight",
     "bn": "expand_bn", "bn_eps": 0.001, "act": "relu6"},
    {"op": "conv", "inp": ["expand"], "out": "depthwise", "weight": "depthwise.weight",
     "pad": [1, 1, 1, 1], "groups": 20, "bn": "depthwise_bn", "bn_eps": 0.001, "act": "relu6"},
    {"op": "conv", "inp": ["depthwise"], "out": "project", "weight": "project.weight",
     "bn": "project_bn", "bn_eps": 0.001},
    {"op": "add", "inp": ["pooled", "project"], "out": "sum"},
    {"op": "conv", "inp": ["sum"], "out": "grouped", "weight": "grouped.weight",
     "bias": "grouped.bias", "stride": [2, 2], "pad": [1, 1, 1, 1], "groups": 2, "act": "relu"},
    {"op": "conv", "inp": ["sum"], "out": "shortcut", "weight": "shortcut.weight",
     "stride": [2, 2]},
    {"op": "conv", "inp": ["grouped"], "out": "narrow", "weight": "narrow.weight",
     "pad": [2, 2, 2, 2], "dilation": 2},
    {"op": "add", "inp": ["narrow", "shortcut"], "out": "block", "act": "relu"},
    {"op": "global_avg_pool", "inp": ["block"], "out": "mean"},
    {"op": "linear", "inp": ["mean"], "out": "logits", "weight": "fc.weight", "bias": "fc.bias"}]})",
                         "test");
  for (Json& node : json["graph"]) {
    if (node["op"] != "conv") continue;
    if (!node.contains("stride")) node["stride"] = {1, 1};
    if (!node.contains("pad")) node["pad"] = {0, 0, 0, 0};
  }
  return json;
}

void write_network(const fs::path& dir) {
  const std::vector<std::pair<std::string, Shape>> shapes = {{"stem.weight", {10, 3, 3, 3}},
                                                             {"expand.weight", {20, 10, 1, 1}},
                                                             {"depthwise.weight", {20, 1, 3, 3}},
                                                             {"project.weight", {10, 20, 1, 1}},
                                                             {"grouped.weight", {8, 5, 3, 3}},
                                                             {"grouped.bias", {8}},
                                                             {"shortcut.weight", {12, 10, 1, 1}},
                                                             {"narrow.weight", {12, 8, 3, 3}},
                                                             {"fc.weight", {5, 12}},
                                                             {"fc.bias", {5}}};
  std::map<std::string, Tensor> tensors;
  Random random(3);
  const auto fill = [&](const std::string& name, const Shape& shape, double low, double high) {
    Tensor t = Tensor::f32(shape);
    for (float& v : t.f32()) v = static_cast<float>(low + (high - low) * random.uniform());
    tensors[name] = std::move(t);
  };
  for (const auto& [name, shape] : shapes) fill(name, shape, -0.4, 0.5);
  const std::map<std::string, std::int64_t> norms = {
      {"stem_bn", 10}, {"expand_bn", 20}, {"depthwise_bn", 20}, {"project_bn", 10}};
  for (const auto& [name, channels] : norms) {
    fill(name + ".weight", {channels}, 0.2, 3);
    fill(name + ".bias", {channels}, -0.5, 1);
    fill(name + ".running_mean", {channels}, -0.5, 0.5);
    fill(name + ".running_var", {channels}, 0.5, 2);
  }
  // Channels of very different sizes, which the weights behind make up for.
  for (std::size_t c = 0; c < 20; ++c) {
    const auto size = static_cast<float>(std::pow(8.0, 2 * random.uniform() - 1));
    tensors["expand_bn.weight"].f32()[c] *= size;
    tensors["expand_bn.bias"].f32()[c] *= size;
    for (std::size_t tap = 0; tap < 9; ++tap)
      tensors["depthwise.weight"].f32()[c * 9 + tap] /= size;
  }

  std::map<std::string, TensorView> views;
  for (const auto& [name, t] : tensors) views[name] = t;
  fs::create_directories(dir);
  write_safetensors(dir / "model.safetensors", views);
  std::ofstream(dir / "config.json") << network().dump();
}

std::vector<TokenBatch> images(const Model& model, int count, std::uint64_t seed) {
  const ImageAttributes image = *image_input_of(model.graph);
  Random random(seed);
  std::vector<float> pixels;
  for (std::int64_t i = 0; i < count * image.channels * image.size.pixels(); ++i)
    pixels.push_back(static_cast<float>(2 * random.uniform() - 1));
  std::vector<TokenBatch> out;
  out.push_back(make_image_batch(model, std::move(pixels)));
  return out;
}

Tensor logits_of(const ForwardModel& model, const TokenBatch& batch, ExecContext& ctx) {
  ForwardOutputs outputs;
  model.forward(batch, outputs, ctx);
  return std::move(outputs.values.at("logits"));
}

double relative_error(const Tensor& want, const Tensor& got) {
  double signal = 0, noise = 0;
  for (std::size_t i = 0; i < want.f32().size(); ++i) {
    const auto x = static_cast<double>(want.f32()[i]);
    const double d = x - static_cast<double>(got.f32()[i]);
    signal += x * x;
    noise += d * d;
  }
  return noise / signal;
}

class ImageQuantization : public ::testing::Test {
 protected:
  ImageQuantization() { write_network(scratch_ / "net"); }
  Model original() const { return load_model(Checkpoint::open(scratch_ / "net")); }
  /// `count`: of images that it is calibrated on.
  Model quantized(const std::string& recipe, int count = 12) {
    Model model = original();
    compress(model, images(model, count, 1), parse_recipe(recipe, "test"), ctx_);
    return model;
  }
  /// Of the quantized model against the original, simulated.
  double error_of(const std::string& recipe) {
    const Model float_model = original();
    const std::vector<TokenBatch> held = images(float_model, 24, 2);
    const Model model = quantized(recipe);
    return relative_error(logits_of(*make_float_model(float_model), held[0], ctx_),
                          logits_of(*make_simulated_model(model, false, ctx_.isa), held[0], ctx_));
  }

  /// Against sums in f64 over what the taps of each group see.
  void expect_moments(const Model& model, NodeId product, const Tensor& x, const Tensor& float_x,
                      MeanInputs means, const std::vector<InputMoments>& got) {
    const auto geometry = conv_geometry(model.graph, product);
    const auto groups = static_cast<std::int64_t>(got.size());
    ASSERT_EQ(groups, geometry ? geometry->groups : 1);
    for (std::int64_t g = 0; g < groups; ++g) {
      std::vector<std::vector<float>> seen, wanted;
      const auto add_rows = [&](const Tensor& of_seen, const Tensor& of_wanted) {
        for (std::int64_t r = 0; r < of_seen.rows(); ++r) {
          seen.emplace_back(of_seen.row(r), of_seen.row(r) + of_seen.cols());
          wanted.emplace_back(of_wanted.row(r), of_wanted.row(r) + of_wanted.cols());
        }
      };
      const std::vector<TensorView> inputs{x.view(), float_x.view()};
      if (geometry)
        for_each_patch_block(inputs, *geometry, g, ctx_, [&](std::span<const Tensor> patches) {
          add_rows(patches[0], patches[1]);
        });
      else
        add_rows(x, float_x);

      const std::size_t columns = seen.front().size();
      std::vector<double> mean(columns), mean_lack(columns);
      const auto tokens = static_cast<double>(seen.size());
      for (std::size_t t = 0; t < seen.size() && means == MeanInputs::kTaken; ++t)
        for (std::size_t k = 0; k < columns; ++k) {
          mean[k] += static_cast<double>(seen[t][k]) / tokens;
          mean_lack[k] += static_cast<double>(wanted[t][k] - seen[t][k]) / tokens;
        }
      const InputMoments& moments = got[static_cast<std::size_t>(g)];
      for (std::size_t a = 0; a < columns; ++a)
        for (std::size_t b = 0; b < columns; ++b) {
          double gram = 0, missing = 0;
          for (std::size_t t = 0; t < seen.size(); ++t) {
            const double of_b = static_cast<double>(seen[t][b]) - mean[b];
            gram += (static_cast<double>(seen[t][a]) - mean[a]) * of_b;
            missing += (static_cast<double>(wanted[t][a] - seen[t][a]) - mean_lack[a]) * of_b;
          }
          const auto row = static_cast<std::int64_t>(a);
          EXPECT_NEAR(moments.gram.row(row)[b], gram, 1e-5 * tokens) << model.node_name(product);
          EXPECT_NEAR(moments.missing.row(row)[b], missing, 1e-5 * tokens)
              << model.node_name(product);
        }
    }
  }

  quell::testing::ScratchDir scratch_;
  ExecContext ctx_{2};
};

constexpr const char* kImagesRecipe =
    "{scheme: W8A8, weights: {symmetric: true, granularity: channel}, activations: {symmetric: "
    "false, granularity: tensor, dynamic: false, observer: avg_minmax}, residual: quantized, "
    "passes: [rtn]}";

std::string recipe_with(const std::string& scheme, const std::string& passes,
                        const std::string& granularity = "channel") {
  return "{scheme: " + scheme + ", weights: {symmetric: true, granularity: " + granularity +
         "}, activations: {symmetric: false, granularity: tensor, observer: avg_minmax}, residual: "
         "quantized, passes: [" +
         passes + "]}";
}

TEST_F(ImageQuantization, KeepsTheFloatFunctionAndIsCloseToIt) {
  const Model float_model = original();
  const std::vector<TokenBatch> held = images(float_model, 6, 2);
  const Model model = quantized(kImagesRecipe);
  EXPECT_EQ(model.folded_batch_norms.size(), 4U);
  const Tensor before = logits_of(*make_float_model(float_model), held[0], ctx_);
  EXPECT_LE(relative_error(before, logits_of(*make_float_model(model), held[0], ctx_)), 1e-9);
  EXPECT_LE(error_of(kImagesRecipe), 5e-3);
}

TEST_F(ImageQuantization, IntegersComputeWhatTheSimulationDoes) {
  const char* recipes[] = {
      kImagesRecipe, "{scheme: W6A6, passes: [rtn]}",
      "{scheme: W4A8, residual: quantized, passes: [{gptq: {sweeps: 2}}, bias_correction]}",
      "{scheme: W8A8, activations: {symmetric: true, granularity: tensor}, passes: [rtn]}"};
  for (const char* recipe : recipes) {
    SCOPED_TRACE(recipe);
    const Model model = quantized(recipe);
    const std::vector<TokenBatch> held = images(model, 3, 2);
    const Tensor simulated = logits_of(*make_simulated_model(model, true, ctx_.isa), held[0], ctx_);
    EXPECT_TRUE(same_bytes(simulated, logits_of(*lower(model, ctx_), held[0], ctx_)));
    const Tensor in_floats =
        logits_of(*make_simulated_model(model, false, ctx_.isa), held[0], ctx_);
    EXPECT_LE(relative_error(in_floats, simulated), 1e-3);
  }
}

TEST_F(ImageQuantization, StaysInCodesFromTheImageToTheMean) {
  const Model model = quantized(kImagesRecipe);
  std::map<std::string, std::string> fused;
  for (const LoweredNode& node : describe_lowering(model, ctx_)) fused[node.name] = node.fused;
  EXPECT_EQ(fused.at("image"), "image, writes codes");
  EXPECT_EQ(fused.at("pooled"), "max pool, codes to codes");
  EXPECT_EQ(fused.at("stem"), "conv2d + relu, writes codes");
  EXPECT_EQ(fused.at("depthwise"), "conv2d + relu6, writes codes");
  EXPECT_EQ(fused.at("project"), "conv2d + residual, writes codes");
  EXPECT_EQ(fused.at("mean"), "mean of codes, writes f32");
  const bool relu_is_fused = fused.at("narrow") == "conv2d + residual + relu, writes codes" ||
                             fused.at("shortcut") == "conv2d + residual + relu, writes codes";
  EXPECT_TRUE(relu_is_fused) << fused.at("narrow") << "; " << fused.at("shortcut");
}

TEST_F(ImageQuantization, WhatIsWrittenIsReadBackTheSame) {
  for (const std::string& recipe :
       {recipe_with("W8A8", "rtn"), recipe_with("W4A8", "adaround"),
        recipe_with("W8A8", "cross_layer_equalization, rtn", "tensor")}) {
    SCOPED_TRACE(recipe);
    const Model model = quantized(recipe);
    export_compressed_tensors(model, scratch_ / "out", true);
    const Model read = load_model(Checkpoint::open(scratch_ / "out"));
    EXPECT_TRUE(read.unused_tensors.empty());
    EXPECT_EQ(read.folded_batch_norms, model.folded_batch_norms);
    const std::vector<TokenBatch> held = images(model, 3, 2);
    EXPECT_TRUE(same_bytes(logits_of(*lower(model, ctx_), held[0], ctx_),
                           logits_of(*lower(read, ctx_), held[0], ctx_)));

    const SafetensorsFile file(scratch_ / "out" / "model.safetensors");
    EXPECT_EQ(file.at("depthwise.weight").shape(), (Shape{20, 1, 3, 3}));
    EXPECT_EQ(file.at("depthwise.weight").dtype(), DType::kI8);
    EXPECT_FALSE(file.has("stem_bn.weight"));

    export_compressed_tensors(read, scratch_ / "again", true);
    const SafetensorsFile again(scratch_ / "again" / "model.safetensors");
    for (const auto& [name, view] : file.tensors())
      EXPECT_EQ(std::memcmp(view.raw(), again.at(name).raw(), view.num_bytes()), 0) << name;
  }
}

TEST_F(ImageQuantization, RoundingByOutputsBeatsRoundingToNearest) {
  const double nearest = error_of(recipe_with("W3A8", "rtn"));
  EXPECT_LT(error_of(recipe_with("W3A8", "adaround")), 0.7 * nearest);
  EXPECT_LT(error_of(recipe_with("W3A8", "{gptq: {sweeps: 10}}")), 0.7 * nearest);
  EXPECT_LT(error_of(recipe_with("W3A8", "rtn, bias_correction")), nearest);
}

/// On the images that it has seen.
TEST_F(ImageQuantization, FloatTargetsMakeUpForEarlierLayers) {
  constexpr int kImages = 200;
  const Model float_model = original();
  const std::vector<TokenBatch> seen = images(float_model, kImages, 1);
  const Tensor wanted = logits_of(*make_float_model(float_model), seen[0], ctx_);
  const auto error = [&](const std::string& passes) {
    const Model model = quantized(recipe_with("W4A8", passes), kImages);
    return relative_error(wanted,
                          logits_of(*make_simulated_model(model, false, ctx_.isa), seen[0], ctx_));
  };
  for (const std::string behind : {"", ", bias_correction"})
    EXPECT_LT(error("{adaround: {range: mse, target: float}}" + behind),
              0.7 * error("{adaround: {range: mse}}" + behind))
        << behind;
}

/// Against sums over what each tap sees, value by value.
TEST_F(ImageQuantization, MomentsAreThoseOfWhatTapsSee) {
  Model model = original();
  fold_batch_norms(model);
  Random random(3);
  for (const Site& site : derive_sites(model, {})) {
    const RowSpace& space = model.graph.value(site.value()).type.rows;
    const std::int64_t pixels = std::max<std::int64_t>(1, space.height * space.width);
    const std::int64_t channels = model.graph.value(site.value()).type.columns;
    const TokenBatch batch = images(model, 1, 2)[0];
    Tensor x = Tensor::f32({batch.batch * pixels, channels});
    Tensor float_x = Tensor::f32(x.shape());
    for (std::size_t i = 0; i < x.f32().size(); ++i) {
      x.f32()[i] = static_cast<float>(random.uniform());
      float_x.f32()[i] = x.f32()[i] + 0.1F * static_cast<float>(random.uniform());
    }
    SiteActivations activations;
    activations.x = {&x};
    activations.float_x = {&float_x};
    activations.batches = {&batch};
    activations.values = {site.value()};
    SiteMoments moments(site, activations, ctx_);
    for (const NodeId product : site.linears)
      for (const MeanInputs means : {MeanInputs::kKept, MeanInputs::kTaken})
        expect_moments(model, product, x, float_x, means, moments.of(product, means));
  }
}

/// Images that are all alike leave nothing but means, which biases take: no noise is rounded by.
TEST_F(ImageQuantization, ConstantInputsSayNothing) {
  Model model = original();
  fold_batch_norms(model);
  Random random(3);
  int checked = 0;
  for (const Site& site : derive_sites(model, {})) {
    const RowSpace& space = model.graph.value(site.value()).type.rows;
    if (space.kind != RowSpace::Kind::kSequences) continue;  // a tap at a border sees padding too
    const std::int64_t channels = model.graph.value(site.value()).type.columns;
    const TokenBatch batch = images(model, 7, 2)[0];
    Tensor x = Tensor::f32({batch.batch, channels});
    for (std::int64_t c = 0; c < channels; ++c) {
      const auto value = static_cast<float>(random.uniform());
      for (std::int64_t i = 0; i < x.rows(); ++i) x.row(i)[c] = value;
    }
    SiteActivations activations;
    activations.x = {&x};
    activations.float_x = {&x};
    activations.batches = {&batch};
    activations.values = {site.value()};
    SiteMoments moments(site, activations, ctx_);
    const Tensor& gram = moments.of(site.linears.front(), MeanInputs::kTaken).front().gram;
    for (const float v : gram.f32()) EXPECT_EQ(v, 0.0F);
    ++checked;
  }
  EXPECT_GT(checked, 0);
}

TEST_F(ImageQuantization, EqualizationHelpsWhereThereIsOneStepForATensor) {
  const std::string plain = recipe_with("W4A8", "rtn", "tensor");
  const std::string equalized = recipe_with("W4A8", "cross_layer_equalization, rtn", "tensor");
  EXPECT_LT(error_of(equalized), 0.8 * error_of(plain));

  const Model model = quantized(equalized);
  EXPECT_TRUE(model.graph.has(op_clamp)) << "a ReLU6 with scaled channels has bounds of its own";
  const std::vector<TokenBatch> held = images(model, 3, 2);
  EXPECT_TRUE(same_bytes(logits_of(*make_simulated_model(model, true, ctx_.isa), held[0], ctx_),
                         logits_of(*lower(model, ctx_), held[0], ctx_)));
}

TEST_F(ImageQuantization, RefusesWhatAFileCannotMean) {
  export_compressed_tensors(quantized(kImagesRecipe), scratch_ / "out", true);
  const auto message_with = [&](const Json& own) {
    Json config = read_json_file(scratch_ / "out" / "config.json");
    config["quell"].update(own);
    std::ofstream(scratch_ / "out" / "config.json") << config.dump();
    try {
      load_model(Checkpoint::open(scratch_ / "out"));
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("it is accepted");
  };
  const auto expect = [&](const Json& modules, const std::string& part) {
    const std::string message = message_with({{"folded_batch_norms", modules}});
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  const Json all = read_json_file(scratch_ / "out" / "config.json")["quell"]["folded_batch_norms"];
  Json with_another = all;
  with_another.push_back("stem");
  expect(with_another, "\"stem\", which is no batch norm");
  Json twice = all;
  twice.push_back("stem_bn");
  expect(twice, "\"stem_bn\", which is no batch norm");
  expect("stem_bn", "must be a list");
  expect({1}, "and holds 1");
  expect(Json::array(), "stem_bn.weight");

  const Json own = {{"folded_batch_norms", all}};
  Json inputs = own;
  inputs["inputs"] = Json::array();
  EXPECT_NE(message_with(inputs).find("inputs must be an object"), std::string::npos);
  inputs["inputs"] = {{"pooled", {{"num_bits", 8}, {"scale", 1e39}}}};
  EXPECT_NE(message_with(inputs).find("\"scale\": must be positive and fit f32"),
            std::string::npos);
}

/// A folder of images of the network's size, with labels.
void write_images(const fs::path& dir, int count) {
  fs::create_directories(dir);
  std::ofstream labels(dir / "labels.tsv");
  Random random(9);
  for (int i = 0; i < count; ++i) {
    Image image(20, 18, 3);
    for (std::uint8_t& level : image.pixels) level = static_cast<std::uint8_t>(random.below(256));
    const std::string name = str("image-", i, ".png");
    const std::vector<std::byte> bytes = encode_png(image);
    std::ofstream(dir / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
    labels << name << '\t' << i % 5 << '\n';
  }
}

TEST_F(ImageQuantization, TheJobMeasuresAllEnginesOnImages) {
  write_images(scratch_ / "images", 12);
  QuantizeJob job;
  job.model_dir = ModelDirectory(scratch_ / "net");
  job.output = scratch_ / "out";
  job.recipe = load_recipe(default_recipe(job.model_dir));
  EXPECT_EQ(job.recipe.name, "images");
  job.calibration.data.file = scratch_ / "images";
  job.eval.emplace().task = kImageClassification;
  job.eval_data.file = scratch_ / "images";
  const Json report = run_quantize_job(job, ctx_).to_json();
  const std::string text = report.dump();
  for (const char* part : {"float", "simulated", "integer", "top-1 agreement", "difference +/-"})
    EXPECT_NE(text.find(part), std::string::npos) << part;

  const auto refusal = [&](const QuantizeJob& asked) -> std::string {
    try {
      run_quantize_job(asked, ctx_);
    } catch (const Error& e) {
      return e.what();
    }
    return "it runs";
  };
  QuantizeJob other = job;
  other.output = scratch_ / "other";
  other.format = "float";
  EXPECT_NE(refusal(other).find("batch norms, which are folded"), std::string::npos)
      << refusal(other);
  other.format = job.format;
  other.calibration.max_seq_length = 5;
  EXPECT_NE(refusal(other).find("--max-seq-length: for models that read text"), std::string::npos)
      << refusal(other);
  other.calibration.max_seq_length = 0;
  other.eval->task = "perplexity";
  EXPECT_NE(refusal(other).find("reads images"), std::string::npos) << refusal(other);
  other.eval.reset();
  std::ofstream(scratch_ / "images" / "broken.png") << "no image";
  EXPECT_NE(refusal(other).find("broken.png"), std::string::npos) << refusal(other);
}

}  // namespace
}  // namespace quell
