// `quell report` on networks of convolutions: sites that are no products of matrices, and the
// images on which float and quantized disagree most.
#include <gtest/gtest.h>

#include <fstream>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/eval/metrics.h"
#include "quell/eval/scoring.h"
#include "quell/io/mapped_file.h"
#include "quell/io/output_file.h"
#include "quell/io/safetensors.h"
#include "quell/job/site_report.h"
#include "quell/model/image_input.h"
#include "quell/vision/decode_image.h"
#include "quell/vision/encode_png.h"
#include "quell/vision/pixel_batch.h"
#include "quell/vision/preprocessor_config.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

/// A stem with a batch norm, an inverted residual with a depthwise convolution, four classes.
Json small_network() {
  return parse_json(R"({"input": [3, 16, 12], "classes": 4,
    "id2label": {"0": "cat", "1": "dog & <wolf>", "3": "LABEL_3"},
    "preprocess": {"channels": "RGB", "scale": "divide by 255"}, "graph": [
    {"op": "conv", "inp": ["x"], "out": "stem", "weight": "stem.weight", "stride": [2, 2],
     "pad": [0, 1, 0, 1], "bn": "norm", "bn_eps": 0.001, "act": "relu6"},
    {"op": "conv", "inp": ["stem"], "out": "wide", "weight": "wide.weight", "bias": "wide.bias",
     "stride": [1, 1], "pad": [0, 0, 0, 0], "act": "relu"},
    {"op": "conv", "inp": ["wide"], "out": "deep", "weight": "deep.weight", "bias": "deep.bias",
     "stride": [1, 1], "pad": [1, 1, 1, 1], "groups": 16, "act": "relu"},
    {"op": "conv", "inp": ["deep"], "out": "narrow", "weight": "narrow.weight",
     "bias": "narrow.bias", "stride": [1, 1], "pad": [0, 0, 0, 0]},
    {"op": "add", "inp": ["narrow", "stem"], "out": "sum"},
    {"op": "global_avg_pool", "inp": ["sum"], "out": "mean"},
    {"op": "linear", "inp": ["mean"], "out": "logits", "weight": "fc.weight"}]})",
                    "test");
}

/// Random weights; channel `loud` of what "narrow" reads is 300 times larger than the others, and
/// the column that reads it 300 times smaller.
void write_network(const fs::path& dir, const Json& config, std::int64_t loud) {
  constexpr float kFactor = 300;
  const std::map<std::string, Shape> shapes = {{"stem.weight", {8, 3, 3, 3}},
                                               {"norm.weight", {8}},
                                               {"norm.bias", {8}},
                                               {"norm.running_mean", {8}},
                                               {"norm.running_var", {8}},
                                               {"wide.weight", {16, 8, 1, 1}},
                                               {"wide.bias", {16}},
                                               {"deep.weight", {16, 1, 3, 3}},
                                               {"deep.bias", {16}},
                                               {"narrow.weight", {8, 16, 1, 1}},
                                               {"narrow.bias", {8}},
                                               {"fc.weight", {4, 8}}};
  Random random(3);
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, shape] : shapes) {
    const bool positive = name.starts_with("norm.running_var") || name == "norm.weight";
    Tensor t = Tensor::f32(shape);
    for (float& v : t.f32())
      v = static_cast<float>(positive ? 0.5 + random.uniform() : 2 * random.uniform() - 1);
    tensors[name] = std::move(t);
  }
  for (int tap = 0; tap < 9; ++tap)
    tensors["deep.weight"].f32()[static_cast<std::size_t>(loud * 9 + tap)] *= kFactor;
  tensors["deep.bias"].f32()[static_cast<std::size_t>(loud)] *= kFactor;
  for (int row = 0; row < 8; ++row)
    tensors["narrow.weight"].f32()[static_cast<std::size_t>(row * 16 + loud)] /= kFactor;

  std::map<std::string, TensorView> views;
  for (const auto& [name, t] : tensors) views[name] = t;
  fs::create_directories(dir);
  write_safetensors(dir / "model.safetensors", views);
  std::ofstream(dir / "config.json") << config.dump();
}

/// Squares of one colour on another, with noise.
void write_images(const fs::path& dir, int count) {
  fs::create_directories(dir);
  Random random(5);
  const auto byte = [&](double most) { return static_cast<std::uint8_t>(random.uniform() * most); };
  for (int n = 0; n < count; ++n) {
    Image image(16, 12, 3);
    const std::uint8_t ground[] = {byte(200), byte(200), byte(200)};
    const std::uint8_t square[] = {byte(200), byte(200), byte(200)};
    for (std::int64_t y = 0; y < 16; ++y)
      for (std::int64_t x = 0; x < 12; ++x)
        for (int c = 0; c < 3; ++c) {
          const bool inside = x > 3 && x < 9 && y > n % 8 && y < n % 8 + 7;
          image.row(y)[3 * x + c] =
              static_cast<std::uint8_t>((inside ? square : ground)[c] + byte(50));
        }
    const std::vector<std::byte> png = encode_png(image);
    std::ofstream(dir / ("image" + std::to_string(100 + n) + ".png"), std::ios::binary)
        .write(reinterpret_cast<const char*>(png.data()), std::ssize(png));
  }
}

SiteReportJob make_job(const quell::testing::ScratchDir& dir, const std::string& scheme) {
  SiteReportJob job;
  job.model_dir = dir / "net";
  job.page = dir / "page.html";
  job.recipe = load_recipe("images");
  set_scheme(job.recipe, scheme);
  job.recipe.batch_size = 5;
  job.calibration.data.file = dir / "pictures";
  job.calibration.num_samples = 16;
  job.num_samples = 8;
  return job;
}

std::vector<std::byte> from_base64(const std::string& text) {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<std::byte> out;
  std::uint32_t bits = 0;
  int have = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<std::uint32_t>(digits.find(c));
    have += 6;
    if (have < 8) continue;
    have -= 8;
    out.push_back(static_cast<std::byte>(bits >> have & 255));
  }
  return out;
}

Image decoded(const std::string& thumbnail) {
  const std::string prefix = "data:image/png;base64,";
  EXPECT_EQ(thumbnail.find(prefix), 0U);
  return decode_image(from_base64(thumbnail.substr(prefix.size())), "thumbnail");
}

int float_class(const fs::path& net, const fs::path& picture) {
  const Model model = load_model(Checkpoint::open(net));
  ExecContext ctx(1);
  const PixelValues pixels =
      preprocess(read_image(picture), read_preprocessing(net), picture.string());
  std::vector<float> planes;
  for (int c = 0; c < 3; ++c)
    for (std::int64_t p = 0; p < pixels.values.rows(); ++p)
      planes.push_back(pixels.values.row(p)[c]);
  ForwardOutputs outputs;
  make_float_model(model)->forward(make_image_batch(model, planes), outputs, ctx);
  return argmax(row_of(outputs.values.at("logits"), 0));
}

TEST(ImageReport, FindsTheConvolutionThatHurts) {
  const quell::testing::ScratchDir dir;
  write_network(dir / "net", small_network(), 5);
  write_images(dir / "pictures", 24);
  ExecContext ctx(2);
  const SiteReport report = run_site_report_job(make_job(dir, "W8A8"), ctx);

  std::map<std::string, const SiteMeasurement*> sites;
  for (const SiteMeasurement& m : report.sites) {
    sites[m.name] = &m;
    EXPECT_GT(m.alone, 0) << m.name;
    EXPECT_NE(m.kernel, "") << m.name;
    EXPECT_GT(m.output_sqnr, 0) << m.name;
    EXPECT_LT(m.output_sqnr, 80) << m.name << ": codes of 8 bits leave an error";
    EXPECT_LE(m.output_sqnr, std::max(m.inputs_only_sqnr, m.weights_only_sqnr) + 1) << m.name;
    EXPECT_EQ(m.min_before.size(), static_cast<std::size_t>(m.channels)) << m.name;
    for (std::size_t c = 0; c < m.max_before.size(); ++c)
      EXPECT_NEAR(m.max_before[c], m.max_after[c], 1e-3 * std::abs(m.max_after[c]) + 1e-5)
          << m.name << ": the batch norm is part of both";
  }
  ASSERT_EQ(sites.size(), 5U);
  EXPECT_EQ(sites.at("stem")->channels, 3);
  EXPECT_EQ(sites.at("wide")->channels, 8);
  EXPECT_EQ(sites.at("deep")->channels, 16) << "channels, not taps";
  EXPECT_EQ(sites.at("narrow")->channels, 16);
  for (const auto& [name, m] : sites)
    if (name != "narrow") {
      EXPECT_LT(m->alone, sites.at("narrow")->alone) << name;
      EXPECT_GT(m->spared, sites.at("narrow")->spared) << name;
    }
  ASSERT_FALSE(report.advice.empty());
  EXPECT_EQ(report.advice.front().text.find("leave narrow in float"), 0U)
      << report.advice.front().text;
}

TEST(ImageReport, ShowsTheImagesThatDisagreeMost) {
  const quell::testing::ScratchDir dir;
  write_network(dir / "net", small_network(), 5);
  write_images(dir / "pictures", 24);
  ExecContext ctx(2);
  const SiteReport report = run_site_report_job(make_job(dir, "W4A4"), ctx);
  ASSERT_EQ(report.inputs.size(), 8U) << "all that were measured, being fewer than ten";

  const std::string page = read_text_file(dir / "page.html");
  double sum = 0;
  std::int64_t others = 0;
  double last = report.inputs.front().divergence;
  for (const DivergentInput& input : report.inputs) {
    EXPECT_LE(input.divergence, last);
    last = input.divergence;
    sum += input.divergence;
    others += input.float_class != input.quantized_class ? 1 : 0;

    ASSERT_TRUE(input.name.starts_with("pictures/image")) << input.name;
    const fs::path file = dir / input.name;
    EXPECT_EQ(decoded(input.thumbnail), read_image(file)) << input.name;
    EXPECT_EQ(input.float_class, float_class(dir / "net", file)) << input.name;
    EXPECT_NE(page.find(input.thumbnail), std::string::npos);
    EXPECT_NE(page.find(input.name), std::string::npos);

    const std::map<std::int64_t, std::string> labels = {
        {0, "cat"}, {1, "dog & <wolf>"}, {2, ""}, {3, ""}};
    EXPECT_EQ(input.float_label, labels.at(input.float_class));
    EXPECT_EQ(input.quantized_label, labels.at(input.quantized_class));
  }
  EXPECT_NEAR(sum / 8, report.all, 1e-9);
  EXPECT_EQ(others, report.other_classes);

  EXPECT_EQ(page.find("<wolf>"), std::string::npos);
  for (const char* outside : {"http:", "https:", "<script", "<link", "url("})
    EXPECT_EQ(page.find(outside), std::string::npos);

  const Json json = report.to_json();
  ASSERT_EQ(json["inputs"].size(), 8U);
  EXPECT_EQ(json["inputs"][0]["input"], report.inputs.front().name);
  EXPECT_EQ(json["inputs"][0]["float_class"], report.inputs.front().float_class);
  EXPECT_FALSE(json["inputs"][0].contains("text"));
}

/// Large images are shown small, and outputs that are maps have no classes.
TEST(ImageReport, MapsHaveNoClasses) {
  const quell::testing::ScratchDir dir;
  Json config = small_network();
  config.erase("classes");
  config["preprocess"]["resize"] = "INTER_AREA";
  config["graph"].erase(6);
  config["graph"].erase(5);
  write_network(dir / "net", config, 5);
  fs::create_directories(dir / "pictures");
  for (int n = 0; n < 9; ++n) {
    Image image(60 + 40 * n, 240, 3);
    for (std::size_t i = 0; i < image.pixels.size(); ++i)
      image.pixels[i] = static_cast<std::uint8_t>(i * static_cast<std::size_t>(n + 3) >> 6 & 255);
    const std::vector<std::byte> png = encode_png(image);
    std::ofstream(dir / ("pictures/" + std::to_string(n) + ".png"), std::ios::binary)
        .write(reinterpret_cast<const char*>(png.data()), std::ssize(png));
  }
  ExecContext ctx(2);
  const SiteReport report = run_site_report_job(make_job(dir, "W6A6"), ctx);
  EXPECT_EQ(report.divergence, "relative squared error of sum");
  ASSERT_EQ(report.inputs.size(), 3U);
  for (const DivergentInput& input : report.inputs) {
    EXPECT_FALSE(input.has_classes);
    const Image original = read_image(dir / input.name);
    const Image shown = decoded(input.thumbnail);
    EXPECT_EQ(std::max(shown.width, shown.height), 96);
    EXPECT_NEAR(static_cast<double>(shown.width) / static_cast<double>(shown.height),
                static_cast<double>(original.width) / static_cast<double>(original.height), 0.05);
  }
  EXPECT_FALSE(report.to_json()["inputs"][0].contains("float_class"));
}

/// Names are any bytes, which JSON and the page cannot hold.
TEST(ImageReport, NamesThatAreNoTextAreShownAllTheSame) {
  const quell::testing::ScratchDir dir;
  write_network(dir / "net", small_network(), 5);
  write_images(dir / "pictures", 9);
  for (int n = 100; n < 109; ++n)
    fs::rename(dir / ("pictures/image" + std::to_string(n) + ".png"),
               dir / ("pictures/\xff" + std::to_string(n) + ".png"));
  ExecContext ctx(1);
  const SiteReport report = run_site_report_job(make_job(dir, "W8A8"), ctx);
  ASSERT_EQ(report.inputs.size(), 3U);
  EXPECT_TRUE(
      report.inputs.front().name.starts_with("pictures/\xef\xbf\xbd"
                                             "10"))
      << report.inputs.front().name;
  EXPECT_NO_THROW(report.to_json().dump());
}

/// A folder is what images are often in; the command that is pasted names the recipe.
TEST(ImageReport, TheCommandReadsAFolder) {
  const quell::testing::ScratchDir dir;
  write_network(dir / "net", small_network(), 5);
  write_images(dir / "pictures", 24);
  const std::string files = "'" + (dir / "net").string() + "' '" + (dir / "page.html").string() +
                            "' --calibration '" + (dir / "pictures").string() + "'";
  const quell::testing::CommandResult result = quell::testing::run_quell(
      "report " + files + " --num-samples 16 --report-samples 8 --scheme W8A8 --quiet");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.out.find("leave narrow in float"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("--recipe images --ignore narrow"), std::string::npos) << result.out;
  EXPECT_TRUE(fs::exists(dir / "page.html"));

  const quell::testing::CommandResult none = quell::testing::run_quell(
      "report '" + (dir / "net").string() + "' '" + (dir / "page.html").string() +
      "' --calibration '" + (dir / "nowhere").string() + "'");
  quell::testing::expect_one_line_error(none, 1, "cannot open (--calibration)", "report");
}

TEST(ImageReport, ATaskOfTextsIsRefusedBeforeAnyWork) {
  const quell::testing::ScratchDir dir;
  write_network(dir / "net", small_network(), 5);
  write_images(dir / "pictures", 24);
  SiteReportJob job = make_job(dir, "W8A8");
  job.eval.emplace();
  job.eval->task = "classification";
  job.eval_data.file = dir / "pictures";
  ExecContext ctx(1);
  EXPECT_THROW(run_site_report_job(job, ctx), Error);
  EXPECT_FALSE(fs::exists(dir / "page.html"));
}

TEST(ImageReport, AdviceIsInPointsOfLabelledImages) {
  const quell::testing::ScratchDir dir;
  write_network(dir / "net", small_network(), 5);
  write_images(dir / "pictures", 24);
  std::string labels;
  for (int n = 0; n < 24; ++n) {
    const std::string name = "image" + std::to_string(100 + n) + ".png";
    labels +=
        name + "\t" + std::to_string(float_class(dir / "net", dir / "pictures" / name)) + "\n";
  }
  write_text_file(dir / "labels.tsv", labels);
  SiteReportJob job = make_job(dir, "W8A8");
  job.eval.emplace();
  job.eval->task = kImageClassification;
  job.eval_data.file = dir / "pictures";
  job.eval_labels = dir / "labels.tsv";
  ExecContext ctx(2);
  const SiteReport report = run_site_report_job(job, ctx);
  EXPECT_EQ(report.task, "image-classification top-1");
  EXPECT_EQ(report.float_metric, 100) << "the labels are the float model's classes";
  EXPECT_GT(report.metric, 0);
}

}  // namespace
}  // namespace quell
