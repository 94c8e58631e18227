// What commands refuse on networks of images before any work: options that only mean something for
// texts, batches that do not fit the memory, formats that cannot hold what a recipe does.
#include <gtest/gtest.h>

#include <fstream>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/io/json.h"
#include "quell/io/output_file.h"
#include "quell/io/safetensors.h"
#include "quell/job/memory_estimate.h"
#include "quell/model/image_input.h"
#include "quell/vision/encode_png.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;
using quell::testing::kReviews;
using quell::testing::run_quell;

constexpr int kImageSide = 16;

/// Two convolutions with a ReLU6 between them, a mean and a classifier.
class ImageOptions : public ::testing::Test {
 protected:
  ImageOptions() {
    const char* config = R"({"input": [3, 16, 16], "classes": 4,
      "preprocess": {"channels": "RGB", "scale": "divide by 255"}, "graph": [
      {"op": "conv", "inp": ["x"], "out": "a", "weight": "a.weight", "bias": "a.bias",
       "stride": [1, 1], "pad": [1, 1, 1, 1], "act": "relu6"},
      {"op": "conv", "inp": ["a"], "out": "b", "weight": "b.weight", "stride": [1, 1],
       "pad": [0, 0, 0, 0]},
      {"op": "global_avg_pool", "inp": ["b"], "out": "mean"},
      {"op": "linear", "inp": ["mean"], "out": "logits", "weight": "fc.weight"}]})";
    const std::map<std::string, Shape> shapes = {{"a.weight", {8, 3, 3, 3}},
                                                 {"a.bias", {8}},
                                                 {"b.weight", {6, 8, 1, 1}},
                                                 {"fc.weight", {4, 6}}};
    std::map<std::string, Tensor> tensors;
    std::map<std::string, TensorView> views;
    Random random(4);
    for (const auto& [name, shape] : shapes) {
      Tensor& t = tensors[name] = Tensor::f32(shape);
      for (float& v : t.f32()) v = static_cast<float>(random.uniform() - 0.3);
      views[name] = t;
    }
    fs::create_directories(dir_ / "net");
    write_safetensors(dir_ / "net" / "model.safetensors", views);
    write_text_file(dir_ / "net" / "config.json", config);

    fs::create_directories(dir_ / "images");
    for (int i = 0; i < 4; ++i) {
      Image image(kImageSide, kImageSide, 3);
      for (std::uint8_t& level : image.pixels) level = static_cast<std::uint8_t>(random.below(256));
      const std::vector<std::byte> bytes = encode_png(image);
      std::ofstream(dir_ / "images" / str(i, ".png"), std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
    }
  }

  std::string net() const { return " " + (dir_ / "net").string() + " "; }
  std::string images() const { return " " + (dir_ / "images").string() + " "; }
  std::string quantize(const std::string& options) const {
    return "quantize" + net() + (dir_ / "out").string() + " --calibration" + images() + options;
  }
  static void expect_refused(const std::string& command, int code, const std::string& words) {
    quell::testing::expect_one_line_error(run_quell(command), code, words, command);
  }

  quell::testing::ScratchDir dir_;
};

const std::string kTextModel = " " + (kReviews / "model").string() + " ";

TEST_F(ImageOptions, OptionsOfTextsAreRefused) {
  const std::string bench = "bench" + net() + "--shape 1 ";
  for (const char* option : {"--kv-int8", "--sequences 4", "--quantize-lm-head", "-p 8", "-n 8"})
    expect_refused(bench + option, 2, "for models that read text");
  expect_refused(bench + "--kv-int8 -p 3", 2, "-p, --kv-int8: for models that read text");
  expect_refused(bench + "--quantize-attention", 2, "has no attention");

  for (const char* option : {"--max-seq-length 8", "--text-column 1", "--label-column 1"}) {
    expect_refused(quantize(option), 2, "for models that read text");
    expect_refused("inspect" + net() + "--calibration" + images() + option, 2,
                   "for models that read text");
    expect_refused(
        "report" + net() + (dir_ / "page.html").string() + " --calibration" + images() + option, 2,
        "for models that read text");
  }
  for (const char* task : {"classification", "perplexity", "sts", "summarization"})
    expect_refused(
        "eval" + net() + "--data " + (kReviews / "eval.tsv").string() + " --task " + task, 2,
        "reads images, not text; measure image-classification or lane-detection");
  expect_refused("generate" + net() + "--prompt a", 1, "reads images, not text");
  EXPECT_FALSE(fs::exists(dir_ / "out"));
}

TEST_F(ImageOptions, OptionsOfImagesAreRefusedOnTexts) {
  for (const char* task : {"image-classification", "lane-detection"})
    expect_refused(
        "eval" + kTextModel + "--data " + (kReviews / "eval.tsv").string() + " --task " + task, 2,
        "reads text, not images");
  expect_refused("bench" + kTextModel + "--shape 8", 2, "8x128");
  expect_refused("quantize" + kTextModel + (dir_ / "out").string() + " --calibration " +
                     (kReviews / "eval.tsv").string() +
                     " --eval-task image-classification --eval-data" + images(),
                 2, "reads text");
}

/// Without what they are about they would change nothing, whatever the model reads.
TEST_F(ImageOptions, OptionsWithoutWhatTheyGoWithAreRefused) {
  for (const std::string& model : {net(), kTextModel}) {
    const std::string inspect = "inspect" + model;
    expect_refused(inspect + "--num-samples 3", 2, "--calibration");
    expect_refused(inspect + "--max-seq-length 3", 2, "--calibration");
    expect_refused(inspect + "--text-column 1", 2, "--calibration");
  }
  expect_refused(quantize("--eval-text-column 2"), 2, "go with --eval-task");
  expect_refused(quantize("--eval-labels " + (kReviews / "eval.tsv").string()), 2,
                 "go with --eval-task");
  expect_refused("bench" + kTextModel + "--shape 1x8 --kv-int8", 2, "goes with -p or -n");
  expect_refused("bench" + kTextModel + "--shape 1x8 --sequences 2", 2, "goes with -n");
  expect_refused("bench" + kTextModel + "--shape 1x8 --quantize-lm-head", 2,
                 "has no language-model head");
}

TEST_F(ImageOptions, RecipesSayWhatConvolutionsHaveNoUseFor) {
  const auto warnings = [&](const std::string& recipe) {
    return run_quell(quantize("--dry-run --recipe " + recipe)).err;
  };
  EXPECT_NE(warnings("smoothquant").find("without effect on convolutions: smoothquant;"),
            std::string::npos)
      << warnings("smoothquant");
  const std::string parts = warnings("outlier_suppression");
  EXPECT_NE(parts.find("quantize: attention, quantize: embeddings;"), std::string::npos) << parts;
  for (const char* recipe : {"images", "images_adaround", "os_plus"})
    EXPECT_EQ(warnings(recipe).find("without effect"), std::string::npos) << warnings(recipe);
}

/// Nothing about vocabularies, and what was read is not said to be without effect.
TEST_F(ImageOptions, InspectSpeaksOfImages) {
  const std::string text = run_quell("inspect" + net()).out;
  for (const char* line :
       {"model_type: graph (described op by op in config.json)\n", "\nimage: [3,16,16]\n",
        "\noutputs: [\"logits\"]\n", "\nlayer  ",
        "\npreprocessing: RGB, of 16 x 16 pixels (others are refused), times 0.00392157\n",
        "\n  read: classes, graph, input, preprocess.channels, preprocess.scale\n"})
    EXPECT_NE(text.find(line), std::string::npos) << line << "in\n" << text;
  for (const char* word : {"vocab_size", "hidden_size", "norm:", "context:", "without effect"})
    EXPECT_EQ(text.find(word), std::string::npos) << word << " in\n" << text;

  Json config = read_json_file(dir_ / "net" / "config.json");
  config["preprocess"]["scale"] = "by hand";
  write_text_file(dir_ / "net" / "config.json", config.dump());
  const std::string refused = run_quell("inspect" + net()).out;
  EXPECT_NE(refused.find("\nrefused, images: "), std::string::npos) << refused;
}

TEST_F(ImageOptions, WhatItTakesAndWhoReadsItIsSaidOfImages) {
  const std::string plain = run_quell(quantize("--dry-run")).out;
  EXPECT_EQ(plain.find("4 images, 3 sites\n"), 0U) << plain;
  const std::string search = run_quell(quantize("--dry-run --recipe images_adaround")).out;
  EXPECT_NE(search.find("search                                     not known"), std::string::npos)
      << search;
  const std::string written = run_quell(quantize("")).err;
  EXPECT_NE(written.find("only Quell reads this file: transformers has no such model\n"),
            std::string::npos)
      << written;
}

TEST_F(ImageOptions, BatchesBeyondTheMemoryAreRefused) {
  ASSERT_GT(available_memory(), 0U);
  expect_refused("bench" + net() + "--shape 16000000", 2,
                 "--shape 16000000: takes about ");  // 190 GiB of pixels and values
  expect_refused("bench --random bert-base --shape 32768x512", 2, "choose a smaller batch");
  const quell::testing::CommandResult fits = run_quell("bench" + net() + "--shape 1,2 -r 1");
  EXPECT_EQ(fits.exit_code, 0) << fits.err;
}

/// Counted by hand: of the convolution "b" its operand and its result are there together.
TEST_F(ImageOptions, ValuesAreCountedWhileTheyAreThere) {
  const Model model = load_model(Checkpoint::open(dir_ / "net"));
  const std::uint64_t pixels = kImageSide * kImageSide;
  EXPECT_EQ(most_values(model, {1, 1}), pixels * (8 + 8));  // "a" and what its ReLU6 makes of it
  EXPECT_EQ(most_values(model, {5, 5}), 5 * most_values(model, {1, 1}));
}

TEST_F(ImageOptions, AFloatCheckpointForBoundsIsRefusedBeforeAnyWork) {
  write_text_file(dir_ / "recipe.yaml", "passes: [cross_layer_equalization, rtn]\n");
  const std::string options = "--format float --recipe " + (dir_ / "recipe.yaml").string();
  for (const char* dry : {" --dry-run", ""}) {
    const quell::testing::CommandResult r = run_quell(quantize(options + dry));
    quell::testing::expect_one_line_error(r, 1, "(a ReLU6 would get a bound for each channel)",
                                          options + dry);
    EXPECT_EQ(r.err.find("quantize: 1 of"), std::string::npos) << r.err;
  }
}

/// Where the activation is a ReLU, the float checkpoint holds it, and computes the same.
TEST_F(ImageOptions, AFloatCheckpointHoldsEqualizedWeights) {
  Json config = read_json_file(dir_ / "net" / "config.json");
  config["graph"][0]["act"] = "relu";
  write_text_file(dir_ / "net" / "config.json", config.dump());
  write_text_file(dir_ / "recipe.yaml", "passes: [cross_layer_equalization, rtn]\n");
  const quell::testing::CommandResult r =
      run_quell(quantize("--format float --recipe " + (dir_ / "recipe.yaml").string()));
  EXPECT_EQ(r.exit_code, 0) << r.err;
  const Model before = load_model(Checkpoint::open(dir_ / "net"));
  const Model after = load_model(Checkpoint::open(dir_ / "out"));
  EXPECT_FALSE(quell::testing::same_bytes(before.params[0].weight, after.params[0].weight));

  ExecContext ctx(1);
  std::vector<float> pixels(3 * kImageSide * kImageSide, 0.5F);
  const TokenBatch batch = make_image_batch(before, pixels);
  ForwardOutputs x;
  ForwardOutputs y;
  make_float_model(before)->forward(batch, x, ctx);
  make_float_model(after)->forward(batch, y, ctx);
  const Tensor& want = x.values.at("logits");
  const Tensor& got = y.values.at("logits");
  for (std::size_t i = 0; i < want.f32().size(); ++i)
    EXPECT_NEAR(want.f32()[i], got.f32()[i], 1e-4) << i;
}

}  // namespace
}  // namespace quell
