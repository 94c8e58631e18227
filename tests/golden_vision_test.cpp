// Convolutional networks, layer by layer, against recorded outputs of their reference
// implementations: before batch norms are folded, and after.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "quell/base/error.h"
#include "quell/compress/compress.h"
#include "quell/engine/executor.h"
#include "quell/engine/lower.h"
#include "quell/exporting/float_checkpoint.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "quell/model/family.h"
#include "quell/model/fold_batch_norm.h"
#include "quell/model/image_input.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

std::vector<std::string> layer_cases() {
  std::vector<std::string> cases;
  for (const std::string& folder : quell::testing::case_folders("golden/vision"))
    if (folder.ends_with("-layers")) cases.push_back(folder);
  if (cases.empty()) cases.emplace_back("none-layers");
  return cases;
}

/// The number behind `word` in a sentence of the case; nothing where it is not there.
std::optional<std::int64_t> number_behind(const std::string& text, const std::string& word) {
  const std::size_t at = text.find(word);
  if (at == std::string::npos) return std::nullopt;
  return std::stoll(text.substr(at + word.size()));
}

/// (value / divisor - mean) / standard deviation, by colour.
struct ChannelScaling {
  float divisor = 255;
  std::vector<float> mean = {0, 0, 0};
  std::vector<float> deviation = {1, 1, 1};

  std::vector<float> apply(std::span<const std::uint8_t> image) const {
    std::vector<float> out;
    const std::size_t pixels = image.size() / mean.size();
    for (std::size_t i = 0; i < image.size(); ++i)
      out.push_back((static_cast<float>(image[i]) / divisor - mean[i / pixels]) /
                    deviation[i / pixels]);
    return out;
  }
};

struct Case {
  Model model;
  std::vector<float> pixels;
};

ChannelScaling preprocessing_of(const Json& config) {
  ChannelScaling p;
  if (config["scale"].get<std::string>().starts_with("raw")) p.divisor = 1;
  if (config.contains("mean")) p.mean = config["mean"].get<std::vector<float>>();
  if (config.contains("std")) p.deviation = config["std"].get<std::vector<float>>();
  return p;
}

const std::vector<float> kImageNetMean = {0.485F, 0.456F, 0.406F};
const std::vector<float> kImageNetDeviation = {0.229F, 0.224F, 0.225F};
constexpr std::int64_t kCifarRecord = 3073;  ///< a label and 3 x 32 x 32 values

std::vector<std::uint8_t> cifar_image(const fs::path& file, std::int64_t index) {
  std::ifstream in(file, std::ios::binary);
  in.seekg(index * kCifarRecord + 1);
  std::vector<std::uint8_t> bytes(kCifarRecord - 1);
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  require(in.good(), ErrorCode::kIo, file.string(), ": has no image ", index);
  return bytes;
}

/// A network that its own folder describes.
Case described_case(const fs::path& dir, const Json& said) {
  const Json config = read_json_file(dir / "config.json");
  const SafetensorsFile reference(dir / "reference.safetensors");
  const auto index = number_behind(said["what"], "images_u8[");
  const TensorView& images = reference.at(index ? "images_u8" : "image_u8");
  const std::size_t size =
      static_cast<std::size_t>(images.numel() / (index ? images.shape()[0] : 1));
  const std::span<const std::uint8_t> image =
      images.as<std::uint8_t>().subspan(static_cast<std::size_t>(index.value_or(0)) * size, size);
  return {load_model(Checkpoint::open(dir)), preprocessing_of(config["preprocess"]).apply(image)};
}

/// A directory with the checkpoint of a ResNet for CIFAR and this config.
void link_cifar(const fs::path& weights, const Json& config, const fs::path& dir) {
  fs::create_symlink(fs::absolute(weights), dir / "model.safetensors");
  std::ofstream(dir / "config.json") << config.dump();
}

std::vector<float> cifar_pixels(const fs::path& images, std::int64_t index) {
  const ChannelScaling p{.mean = kImageNetMean, .deviation = kImageNetDeviation};
  return p.apply(cifar_image(images, index));
}

Executor run_all(const Model& model, const TokenBatch& batch, ExecContext& ctx) {
  static const OpTable kReferences;
  Executor executor(model, kReferences, false, batch, ctx);
  executor.keep_values = true;
  executor.run_until();
  return executor;
}

/// What the description calls a node: the last of its operation, batch norm and activation.
ValueId value_of(const Graph& graph, const std::string& name) {
  ValueId found = kNoValue;
  for (const char* suffix : {"", ".bn", ".act"}) {
    const NodeId n = graph.find(name + suffix);
    if (n != kNoNode && !graph.is_removed(n)) found = graph.node(n).out;
  }
  return found;
}

/// [C, H, W] of rows that are pixels.
std::vector<float> channels_first(const Tensor& t) {
  std::vector<float> out;
  for (std::int64_t c = 0; c < t.cols(); ++c)
    for (std::int64_t r = 0; r < t.rows(); ++r) out.push_back(t.row(r)[c]);
  return out;
}

struct Statistics {
  double mean = 0, deviation = 0, low = 0, high = 0, norm = 0;
};

Statistics statistics_of(const std::vector<float>& values) {
  Statistics s{.low = INFINITY, .high = -INFINITY};
  double squares = 0;
  for (const float f : values) {
    const auto v = static_cast<double>(f);
    s.mean += v;
    squares += v * v;
    s.low = std::min(s.low, v);
    s.high = std::max(s.high, v);
  }
  const auto count = static_cast<double>(values.size());
  s.mean /= count;
  s.deviation = std::sqrt(std::max(squares / count - s.mean * s.mean, 0.0));
  s.norm = std::sqrt(squares);
  return s;
}

class GoldenVisionLayers : public ::testing::TestWithParam<std::string> {
 protected:
  /// Of the golden case in `dir_`; none where its model is not there.
  std::optional<Case> load() {
    const std::string name = GetParam().substr(0, GetParam().rfind("-layers"));
    if (!case_.contains("graph")) {
      const fs::path dir = quell::testing::find_data("models/" + name);
      if (dir.empty()) return std::nullopt;
      return described_case(dir, case_);
    }

    const fs::path weights =
        quell::testing::find_data("models/cifar10-resnet/" + name + ".safetensors");
    const fs::path images = quell::testing::find_data("data/vision/cifar10/test1000_lossless.bin");
    if (weights.empty() || images.empty()) return std::nullopt;
    const Json config = {{"input", {3, 32, 32}}, {"graph", case_["graph"]}};
    link_cifar(weights, config, scratch_.path());
    return Case{load_model(Checkpoint::open(scratch_.path())),
                cifar_pixels(images, number_behind(case_["what"], "on image ").value())};
  }

  void expect_layers(const Model& model, const TokenBatch& batch, const SafetensorsFile& expected,
                     const char* when) {
    ExecContext ctx(2);
    const Executor executor = run_all(model, batch, ctx);
    const TensorView& samples = expected.at("samples");
    const TensorView& stats = expected.at("stats");
    for (std::size_t i = 0; i < case_["nodes"].size(); ++i) {
      const std::string node = case_["nodes"][i];
      const ValueId v = value_of(model.graph, node);
      ASSERT_NE(v, kNoValue) << node;
      const std::vector<float> ours = channels_first(executor.value(v));
      std::int64_t size = 1;
      for (const Json& side : case_["shapes"][i]) size *= side.get<std::int64_t>();
      ASSERT_EQ(static_cast<std::int64_t>(ours.size()), size) << node;

      const float* s = stats.row(static_cast<std::int64_t>(i));
      const double largest = std::max(std::fabs(s[2]), std::fabs(s[3]));
      const double tolerance = 1e-4 + 2e-5 * largest;
      for (std::int64_t j = 0; j < samples.cols(); ++j) {
        const float ours_j = ours[static_cast<std::size_t>(j * size / samples.cols())];
        EXPECT_NEAR(ours_j, samples.row(static_cast<std::int64_t>(i))[j], tolerance)
            << node << " sample " << j << ' ' << when;
      }
      const Statistics got = statistics_of(ours);
      EXPECT_NEAR(got.mean, s[0], tolerance) << node << ' ' << when;
      EXPECT_NEAR(got.deviation, s[1], tolerance) << node << ' ' << when;
      EXPECT_NEAR(got.low, s[2], tolerance) << node << ' ' << when;
      EXPECT_NEAR(got.high, s[3], tolerance) << node << ' ' << when;
      EXPECT_NEAR(got.norm, s[4], 1e-4 + 2e-5 * static_cast<double>(s[4])) << node << ' ' << when;
    }
    expect_outputs(model, executor, expected, when);
  }

  /// Whole outputs, where the case holds them.
  void expect_outputs(const Model& model, const Executor& executor, const SafetensorsFile& expected,
                      const char* when) {
    for (const auto& [name, v] : model.graph.outputs) {
      if (!expected.has(name)) continue;
      const std::span<const float> want = expected.at(name).f32();
      const std::vector<float> ours = channels_first(executor.value(v));
      ASSERT_EQ(ours.size(), want.size()) << name;
      double largest = 0;
      for (const float w : want) largest = std::max(largest, static_cast<double>(std::fabs(w)));
      for (std::size_t j = 0; j < want.size(); ++j)
        EXPECT_NEAR(ours[j], want[j], 1e-4 + 2e-5 * largest) << name << ' ' << j << ' ' << when;
    }
  }

  void expect_folded_weights(const Model& model, const SafetensorsFile& expected) {
    const std::span<const float> bias = expected.at("fold.bias").f32();
    const TensorView& samples = expected.at("fold.weight_samples");
    std::size_t at = 0;
    for (std::size_t i = 0; i < case_["folded"].size(); ++i) {
      const std::string node = case_["folded"][i];
      const Param& p = model.param_of(model.graph.find(node));
      ASSERT_EQ(p.bias.numel(), case_["folded_channels"][i].get<std::int64_t>()) << node;
      for (const float b : p.bias.f32()) {
        const float want = bias[at++];
        EXPECT_NEAR(b, want, 1e-5 * (1 + std::fabs(static_cast<double>(want)))) << node;
      }

      std::vector<float> stored(static_cast<std::size_t>(p.weight.numel()));
      double squares = 0;
      for (std::int64_t r = 0; r < p.weight.rows(); ++r)
        for (std::int64_t c = 0; c < p.weight.cols(); ++c) {
          const float w = p.weight.row(r)[c];
          stored[static_cast<std::size_t>(packed_index(p.packing, r, c, p.weight.shape()))] = w;
          squares += static_cast<double>(w) * static_cast<double>(w);
        }
      const float* want = samples.row(static_cast<std::int64_t>(i));
      const std::int64_t count = samples.cols() - 1;
      for (std::int64_t j = 0; j < count; ++j)
        EXPECT_NEAR(stored[static_cast<std::size_t>(j * p.weight.numel() / count)], want[j],
                    1e-5 * (1 + std::fabs(static_cast<double>(want[j]))))
            << node << " weight " << j;
      EXPECT_NEAR(std::sqrt(squares), want[count], 1e-5 * static_cast<double>(want[count])) << node;
    }
    EXPECT_EQ(at, bias.size());
  }

  Json case_;
  quell::testing::ScratchDir scratch_;
};

TEST_P(GoldenVisionLayers, EqualTheReferenceBeforeAndAfterFolding) {
  QUELL_NEED_DATA(dir, "golden/vision/" + GetParam());
  case_ = read_json_file(dir / "case.json");
  const SafetensorsFile expected(dir / "expected.safetensors");
  std::optional<Case> found = load();
  if (!found) GTEST_SKIP() << "the model of " << GetParam() << " is not there; set QUELL_DATA";

  EXPECT_TRUE(found->model.unused_tensors.empty());
  const TokenBatch batch = make_image_batch(found->model, found->pixels);
  expect_layers(found->model, batch, expected, "before folding");
  const std::vector<std::string> folded = fold_batch_norms(found->model);
  EXPECT_EQ(folded.size(), case_["folded"].size());
  expect_folded_weights(found->model, expected);
  expect_layers(found->model, batch, expected, "after folding");
}

std::string name_of(const ::testing::TestParamInfo<std::string>& info) {
  return quell::testing::test_name(info.param);
}

INSTANTIATE_TEST_SUITE_P(AllCases, GoldenVisionLayers, ::testing::ValuesIn(layer_cases()), name_of);

/// LSTR in its authors' form: LSTR.json, with this size of images, beside these weights.
Model load_lstr(const fs::path& dir, const std::string& weights, const ImageSize& size,
                const fs::path& scratch) {
  fs::create_symlink(fs::absolute(dir / weights), scratch / "model.safetensors");
  Json settings = read_json_file(dir / "LSTR.json");
  settings["db"]["input_size"] = {size.height, size.width};
  std::ofstream(scratch / "LSTR.json") << settings.dump();
  return load_model(Checkpoint::open(scratch));
}

/// Planes of red, green and blue to those of blue, green and red, as the reference scales them.
std::vector<float> lane_pixels(const TensorView& image) {
  const std::span<const std::uint8_t> bytes = image.as<std::uint8_t>();
  const std::size_t plane = bytes.size() / 3;
  std::vector<std::uint8_t> swapped;
  for (const std::size_t colour : {2U, 1U, 0U})
    swapped.insert(swapped.end(), bytes.begin() + static_cast<std::ptrdiff_t>(colour * plane),
                   bytes.begin() + static_cast<std::ptrdiff_t>((colour + 1) * plane));
  const ChannelScaling p{.mean = {0.40789654F, 0.44719302F, 0.47026115F},
                         .deviation = {0.28863828F, 0.27408164F, 0.27809835F}};
  return p.apply(swapped);
}

void expect_close(const Tensor& ours, std::span<const float> want, double absolute, double relative,
                  const std::string& what) {
  ASSERT_EQ(static_cast<std::size_t>(ours.numel()), want.size()) << what;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const auto value = static_cast<double>(want[i]);
    EXPECT_NEAR(ours.f32()[i], value, absolute + relative * std::fabs(value)) << what << ' ' << i;
  }
}

/// The first of several images of a recorded tensor.
std::span<const float> first_of(const TensorView& t) {
  return t.f32().subspan(0, static_cast<std::size_t>(t.numel() / t.shape()[0]));
}

TEST(GoldenVisionLstr, TheFirstFrameLayerByLayer) {
  QUELL_NEED_DATA(dir, "models/lstr-lane");
  QUELL_NEED_DATA(golden, "golden/vision/lstr-forward");
  QUELL_NEED_DATA(frames, "models/twinlitenet/reference.safetensors");
  const quell::testing::ScratchDir scratch;
  const Model model = load_lstr(dir, "model.safetensors", {360, 640}, scratch.path());
  EXPECT_TRUE(model.unused_tensors.empty());

  ExecContext ctx(2);
  const SafetensorsFile images(frames);
  const TokenBatch batch = make_image_batch(model, lane_pixels(images.at("image_u8")));
  const Executor executor = run_all(model, batch, ctx);
  const Graph& graph = model.graph;
  const SafetensorsFile expected(golden / "expected.safetensors");
  const auto planes = [](const Tensor& t) {
    const std::vector<float> values = channels_first(t);
    return Tensor::from<float>(values, {static_cast<std::int64_t>(values.size())});
  };
  const ValueId map = graph.node(graph.find("encoder.input_proj")).in[0];
  expect_close(planes(executor.value(map)), expected.at("first.backbone").f32(), 1e-4, 1e-4,
               "backbone");
  const ValueId memory = graph.stacks.front().hidden_states.back();
  expect_close(planes(executor.value(memory)), expected.at("first.memory").f32(), 1e-3, 1e-3,
               "memory");
  const TensorView& states = expected.at("first.hs");
  const ValueId last = graph.node(graph.find("decoder.final_norm")).out;
  const std::size_t half = static_cast<std::size_t>(states.numel() / 2);
  expect_close(executor.value(last), states.f32().subspan(half), 1e-3, 1e-3, "last layer");
  for (const auto& [name, v] : graph.outputs)
    if (expected.has(name))
      expect_close(executor.value(v), first_of(expected.at(name)), 1e-3, 1e-3, name);
}

TEST(GoldenVisionLstr, AnotherImageGivesWhatTheReferenceRecorded) {
  QUELL_NEED_DATA(dir, "models/lstr-lane");
  const quell::testing::ScratchDir scratch;
  const Model model = load_lstr(dir, "model.safetensors", {360, 640}, scratch.path());
  const SafetensorsFile reference(dir / "reference.safetensors");
  const std::span<const float> image = reference.at("image").f32();

  // Twice in one batch: each has its queries.
  std::vector<float> pixels(image.begin(), image.end());
  pixels.insert(pixels.end(), image.begin(), image.end());
  const TokenBatch batch = make_image_batch(model, std::move(pixels));
  ExecContext ctx(2);
  ForwardOutputs outputs;
  make_float_model(model)->forward(batch, outputs, ctx);
  for (const char* name : {"pred_logits", "pred_curves"}) {
    std::span<const float> once = reference.at(name).f32();
    std::vector<float> want(once.begin(), once.end());
    want.insert(want.end(), once.begin(), once.end());
    expect_close(outputs.values.at(name), want, 1e-3, 1e-3, name);
  }
}

/// Its linears and attentions, that is; convolutions stay in float.
TEST(GoldenVisionLstr, ItsTransformerRunsInIntegersAsSimulated) {
  QUELL_NEED_DATA(dir, "models/lstr-lane");
  const quell::testing::ScratchDir scratch;
  Model model = load_lstr(dir, "model.safetensors", {360, 640}, scratch.path());
  const SafetensorsFile reference(dir / "reference.safetensors");
  const std::span<const float> image = reference.at("image").f32();
  std::vector<TokenBatch> samples;
  samples.push_back(make_image_batch(model, {image.begin(), image.end()}));
  ExecContext ctx(2);
  const char* recipe =
      "{scheme: W8A8, migrate: {relu: true, attention: true}, passes: [{os_plus: {shift: "
      "always}}]}";
  compress(model, samples, parse_recipe(recipe, "test"), ctx);
  EXPECT_TRUE(model.is_quantized());

  const auto outputs_of = [&](const ForwardModel& engine) {
    ForwardOutputs outputs;
    engine.forward(samples[0], outputs, ctx);
    return std::move(outputs.values);
  };
  const auto migrated = outputs_of(*make_float_model(model));
  const auto simulated = outputs_of(*make_simulated_model(model, true, ctx.isa));
  const auto integer = outputs_of(*lower(model, ctx));
  for (const char* name : {"pred_logits", "pred_curves"}) {
    expect_close(migrated.at(name), reference.at(name).f32(), 1e-3, 1e-3, name);
    EXPECT_TRUE(quell::testing::same_bytes(simulated.at(name), integer.at(name))) << name;
    EXPECT_FALSE(quell::testing::same_bytes(migrated.at(name), integer.at(name))) << name;
  }
}

TEST(GoldenVisionLstr, IsWrittenAsItWasRead) {
  QUELL_NEED_DATA(dir, "models/lstr-lane");
  const quell::testing::ScratchDir scratch;
  const Model model = load_lstr(dir, "model.safetensors", {360, 640}, scratch.path());
  export_float_checkpoint(model, scratch / "copy", false);
  const SafetensorsFile source(dir / "model.safetensors");
  const SafetensorsFile copy(scratch / "copy" / "model.safetensors");
  ASSERT_EQ(copy.tensors().size(), source.tensors().size());
  for (const auto& [name, view] : source.tensors())
    EXPECT_TRUE(quell::testing::same_bytes(Tensor::copy_of(copy.at(name)), Tensor::copy_of(view)))
        << name;
  EXPECT_TRUE(load_model(Checkpoint::open(scratch / "copy")).unused_tensors.empty());
}

TEST(GoldenVisionLstr, TheFirstFrameOfCuLane) {
  QUELL_NEED_DATA(dir, "models/lstr-lane");
  QUELL_NEED_DATA(golden, "golden/vision/lstr-culane-forward");
  const quell::testing::ScratchDir scratch;
  const Model model = load_lstr(dir, "model_culane.safetensors", {295, 820}, scratch.path());
  const SafetensorsFile inputs(golden / "inputs.safetensors");
  const TokenBatch batch = make_image_batch(model, lane_pixels(inputs.at("first_image_u8")));
  ExecContext ctx(2);
  ForwardOutputs outputs;
  make_float_model(model)->forward(batch, outputs, ctx);
  const SafetensorsFile expected(golden / "expected.safetensors");
  for (const char* name : {"pred_logits", "pred_curves"})
    expect_close(outputs.values.at(name), first_of(expected.at(name)), 1e-3, 1e-3, name);
}

/// The family's own names and sizes, by the architecture alone; and how many images of 1,000 their
/// author's network recognises.
struct Recognised {
  const char* network;
  int images;
};

class GoldenVisionCifar : public ::testing::TestWithParam<Recognised> {};

int num_right(const Tensor& logits, const std::vector<int>& labels) {
  int right = 0;
  for (std::int64_t i = 0; i < logits.rows(); ++i) {
    const float* row = logits.row(i);
    const auto best = std::max_element(row, row + logits.cols()) - row;
    right += best == labels[static_cast<std::size_t>(i)];
  }
  return right;
}

TEST_P(GoldenVisionCifar, ResNetsRecogniseImages) {
  const std::string network = GetParam().network;
  QUELL_NEED_DATA(weights, "models/cifar10-resnet/" + network + ".safetensors");
  QUELL_NEED_DATA(images, "data/vision/cifar10/test1000_lossless.bin");
  const quell::testing::ScratchDir scratch;
  link_cifar(weights, {{"model_type", "resnet"}, {"architectures", {network}}}, scratch.path());
  const Model model = load_model(Checkpoint::open(scratch.path()));
  EXPECT_TRUE(model.unused_tensors.empty());

  ExecContext ctx(2);
  constexpr int kImages = 1000;
  constexpr int kBatch = 50;
  const auto float_model = make_float_model(model);
  std::ifstream labels_file(images, std::ios::binary);
  int right = 0;
  for (int first = 0; first < kImages; first += kBatch) {
    std::vector<float> pixels;
    std::vector<int> labels;
    for (int i = first; i < first + kBatch; ++i) {
      const std::vector<float> image = cifar_pixels(images, i);
      pixels.insert(pixels.end(), image.begin(), image.end());
      labels_file.seekg(i * kCifarRecord);
      labels.push_back(labels_file.get());
    }
    ForwardOutputs outputs;
    float_model->forward(make_image_batch(model, std::move(pixels)), outputs, ctx);
    right += num_right(outputs.values.at("logits"), labels);
  }
  EXPECT_NEAR(right, GetParam().images, 1) << "of " << kImages;
}

/// torchvision's name of a tensor of MobileNetV2 as transformers has it.
std::string hugging_face_name(const std::string& name) {
  const std::string tensor = name.substr(name.rfind('.'));
  const std::string module = name.substr(0, name.size() - tensor.size());
  if (module == "classifier.1") return "classifier" + tensor;

  const std::map<std::string, std::string> ends = {
      {"features.0.0", "conv_stem.first_conv.convolution"},
      {"features.0.1", "conv_stem.first_conv.normalization"},
      {"features.1.conv.0.0", "conv_stem.conv_3x3.convolution"},
      {"features.1.conv.0.1", "conv_stem.conv_3x3.normalization"},
      {"features.1.conv.1", "conv_stem.reduce_1x1.convolution"},
      {"features.1.conv.2", "conv_stem.reduce_1x1.normalization"},
      {"features.18.0", "conv_1x1.convolution"},
      {"features.18.1", "conv_1x1.normalization"}};
  if (const auto found = ends.find(module); found != ends.end())
    return "mobilenet_v2." + found->second + tensor;

  const std::map<std::string, std::string> parts = {
      {"0.0", "expand_1x1.convolution"}, {"0.1", "expand_1x1.normalization"},
      {"1.0", "conv_3x3.convolution"},   {"1.1", "conv_3x3.normalization"},
      {"2", "reduce_1x1.convolution"},   {"3", "reduce_1x1.normalization"}};
  const std::size_t at = module.find(".conv.");
  const int block = std::stoi(module.substr(9)) - 2;
  return "mobilenet_v2.layer." + std::to_string(block) + "." + parts.at(module.substr(at + 6)) +
         tensor;
}

/// The family, given torchvision's weights under the names of transformers.
TEST(GoldenVisionFamilies, MobileNetV2EqualsTheReference) {
  QUELL_NEED_DATA(dir, "models/mobilenet-v2");
  QUELL_NEED_DATA(golden, "golden/vision/mobilenet-v2-layers");
  const Case described = described_case(dir, read_json_file(golden / "case.json"));
  std::map<std::string, Tensor> weights;
  const SafetensorsFile file(dir / "model.safetensors");
  for (const auto& [name, view] : file.tensors())
    weights[hugging_face_name(name)] = Tensor::copy_of(view);
  const Json config = {{"model_type", "mobilenet_v2"},
                       {"tf_padding", false},
                       {"layer_norm_eps", 1e-5},
                       {"num_labels", 1000}};
  const Model model = make_model(build_architecture(Settings(config)), std::move(weights));
  EXPECT_TRUE(model.unused_tensors.empty());

  ExecContext ctx(2);
  ForwardOutputs outputs;
  make_float_model(model)->forward(make_image_batch(model, described.pixels), outputs, ctx);
  const std::span<const float> got = outputs.values.at("logits").f32();
  const SafetensorsFile expected(golden / "expected.safetensors");
  const std::span<const float> want = expected.at("logits").f32();
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 6e-4) << i;
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, GoldenVisionCifar,
                         ::testing::Values(Recognised{"resnet20", 915},
                                           Recognised{"resnet56", 926}),
                         [](const auto& info) { return std::string(info.param.network); });

}  // namespace
}  // namespace quell
