// Checkpoints of convolutional networks on disk: read, written again, and refused in one line.
#include <gtest/gtest.h>

#include <fstream>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/exporting/float_checkpoint.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "quell/model/image_input.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

Json small_network() {
  return parse_json(R"({"input": [3, 8, 6], "graph": [
    {"op": "conv", "inp": ["x"], "out": "stem", "weight": "stem.weight", "stride": [2, 1],
     "pad": [0, 1, 1, 1], "bn": "norm", "bn_eps": 0.001, "act": "relu"},
    {"op": "conv", "inp": ["stem"], "out": "wide", "weight": "wide.weight", "bias": "wide.bias",
     "stride": [1, 1], "pad": [1, 1, 1, 1], "groups": 4, "act": "hardswish"},
    {"op": "conv_transpose", "inp": ["wide"], "out": "map", "weight": "up.weight",
     "stride": [2, 2], "pad": [0, 0, 0, 0], "act": "prelu", "prelu": "slopes.weight"},
    {"op": "resize", "inp": ["map"], "out": "large", "size": [10, 10], "mode": "bilinear"}]})",
                    "test");
}

void write_network(const fs::path& dir, const Json& config) {
  const std::map<std::string, Shape> shapes = {{"stem.weight", {4, 3, 3, 3}},
                                               {"norm.weight", {4}},
                                               {"norm.bias", {4}},
                                               {"norm.running_mean", {4}},
                                               {"norm.running_var", {4}},
                                               {"wide.weight", {8, 1, 3, 3}},
                                               {"wide.bias", {8}},
                                               {"up.weight", {8, 2, 2, 2}},
                                               {"slopes.weight", {2}}};
  Random random(3);
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, shape] : shapes) {
    Tensor t = Tensor::f32(shape);
    for (float& v : t.f32()) v = static_cast<float>(random.uniform());
    tensors[name] = std::move(t);
  }
  std::map<std::string, TensorView> views;
  for (const auto& [name, t] : tensors) views[name] = t;
  fs::create_directories(dir);
  write_safetensors(dir / "model.safetensors", views);
  std::ofstream(dir / "config.json") << config.dump();
}

Tensor output_of(const Model& model) {
  std::vector<float> pixels;
  Random random(4);
  for (int i = 0; i < 2 * 3 * 8 * 6; ++i)
    pixels.push_back(static_cast<float>(2 * random.uniform() - 1));
  ExecContext ctx(2);
  ForwardOutputs outputs;
  make_float_model(model)->forward(make_image_batch(model, std::move(pixels)), outputs, ctx);
  return std::move(outputs.values.at("large"));
}

TEST(ImageCheckpoint, IsWrittenAsItWasRead) {
  const quell::testing::ScratchDir scratch;
  write_network(scratch / "net", small_network());
  const Model model = load_model(Checkpoint::open(scratch / "net"));
  EXPECT_TRUE(model.unused_tensors.empty());
  export_float_checkpoint(model, scratch / "copy", false);

  const SafetensorsFile source(scratch / "net" / "model.safetensors");
  const SafetensorsFile copy(scratch / "copy" / "model.safetensors");
  ASSERT_EQ(copy.tensors().size(), source.tensors().size());
  for (const auto& [name, view] : source.tensors()) {
    ASSERT_EQ(copy.at(name).shape(), view.shape()) << name;
    EXPECT_TRUE(quell::testing::same_bytes(Tensor::copy_of(copy.at(name)), Tensor::copy_of(view)))
        << name;
  }
  const Model again = load_model(Checkpoint::open(scratch / "copy"));
  EXPECT_TRUE(quell::testing::same_bytes(output_of(model), output_of(again)));
}

/// Worked out by hand: ones everywhere, so that the middle of a window of 3 x 3 sees 9.
TEST(ImageCheckpoint, ADescriptionComputesWhatItSays) {
  const Json config = parse_json(R"({"input": [1, 3, 3], "classes": 2, "graph": [
    {"op": "conv", "inp": ["x"], "out": "a", "weight": "a.weight", "stride": [1, 1],
     "pad": [1, 1, 1, 1], "bn": "bn", "bn_eps": 0.25, "act": "relu6"},
    {"op": "max_pool", "inp": ["a"], "out": "b", "kernel": [3, 3], "stride": [3, 3],
     "pad": [0, 0, 0, 0]},
    {"op": "avg_pool", "inp": ["x"], "out": "c", "kernel": [3, 3], "stride": [3, 3],
     "pad": [0, 0, 0, 0]},
    {"op": "add", "inp": ["b", "c", "c"], "out": "sum"},
    {"op": "global_avg_pool", "inp": ["sum"], "out": "mean"},
    {"op": "linear", "inp": ["mean"], "out": "logits", "weight": "fc.weight"}]})",
                                 "test");
  std::map<std::string, Tensor> weights;
  const auto set = [&](const char* name, Shape shape, float value) {
    Tensor t = Tensor::f32(std::move(shape));
    for (float& v : t.f32()) v = value;
    weights[name] = std::move(t);
  };
  set("a.weight", {1, 1, 3, 3}, 1);
  set("bn.weight", {1}, 2);
  set("bn.bias", {1}, -11);
  set("bn.running_mean", {1}, 1);
  set("bn.running_var", {1}, 0.75F);
  set("fc.weight", {2, 1}, 3);
  const Checkpoint checkpoint = Checkpoint::in_memory(std::move(weights));
  const quell::testing::ScratchDir scratch;
  write_safetensors(scratch / "model.safetensors", checkpoint.tensors());
  std::ofstream(scratch / "config.json") << config.dump();
  const Model model = load_model(Checkpoint::open(scratch.path()));

  const TokenBatch batch = make_image_batch(model, std::vector<float>(9, 1.0F));
  ExecContext ctx(1);
  ForwardOutputs outputs;
  make_float_model(model)->forward(batch, outputs, ctx);
  // The middle: (9 - 1) * 2 - 11 = 5; the mean of ones twice; times 3.
  ASSERT_EQ(outputs.values.at("logits").shape(), (Shape{1, 2}));
  for (const float v : outputs.values.at("logits").f32()) EXPECT_EQ(v, 21);
}

TEST(ImageCheckpoint, ResultsDoNotDependOnThreads) {
  const quell::testing::ScratchDir scratch;
  write_network(scratch / "net", small_network());
  const Model model = load_model(Checkpoint::open(scratch / "net"));
  EXPECT_EQ(output_of(model).shape(), (Shape{2 * 10 * 10, 2}));

  const TokenBatch batch = make_image_batch(model, std::vector<float>(3 * 8 * 6, 0.5F));
  EXPECT_THROW(make_image_batch(model, std::vector<float>(7)), Error) << "no whole image";
  std::vector<Tensor> results;
  for (const int threads : {1, 3}) {
    ExecContext ctx(threads);
    ForwardOutputs outputs;
    make_float_model(model)->forward(batch, outputs, ctx);
    results.push_back(std::move(outputs.values.at("large")));
  }
  EXPECT_TRUE(quell::testing::same_bytes(results[0], results[1]));
}

/// One line, exit code 1, with file, node and value.
TEST(ImageCheckpoint, BadDescriptionsAreRefused) {
  const quell::testing::ScratchDir scratch;
  const auto expect = [&](const std::string& name, const Json& config, const std::string& words) {
    write_network(scratch / name, config);
    const std::string command = "inspect " + (scratch / name).string();
    quell::testing::expect_one_line_error(quell::testing::run_quell(command), 1, words, command);
  };
  Json cycle = small_network();
  cycle["graph"][0]["inp"] = {"map"};
  expect("cycle", cycle,
         "config.json: node \"stem\": reads \"map\", which is computed from it: the graph has a "
         "cycle");
  Json unknown = small_network();
  unknown["graph"][1]["op"] = "fold";
  expect("unknown", unknown, "config.json: node \"wide\": op \"fold\" is not known");
  Json missing = small_network();
  missing["graph"][0]["weight"] = "root.weight";
  expect("missing", missing,
         "config.json: node \"stem\": tensor \"root.weight\" is not in the checkpoint");
  Json misshapen = small_network();
  misshapen["graph"][0]["bn"] = "wide";
  expect("misshapen", misshapen, "config.json: node \"stem\": tensor \"wide.weight\"");
}

}  // namespace
}  // namespace quell
