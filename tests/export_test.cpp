// What `quell quantize` writes: formats, names and sizes, and that reading it back gives the same
// model.
#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/compress/compress.h"
#include "quell/exporting/compressed_tensors.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "quell/job/engine.h"
#include "quell/job/quantize_job.h"
#include "quell/model/stored_codes.h"
#include "quell/quant/packed_codes.h"
#include "tests/support/support.h"

namespace quell {
namespace {

using quell::testing::same_bytes;
namespace fs = std::filesystem;

using quell::testing::kReviews;

std::vector<TokenBatch> some_samples(const Model& model, std::int64_t count = 24) {
  CalibrationChoice choice;
  choice.data.file = kReviews / "calibration.tsv";
  choice.num_samples = count;
  choice.sampling = Sampling::kFirst;
  return make_batches(quell::testing::load_sequences(choice, model), 8, model.spec.pad_token_id);
}

Tensor output_of(const char* engine, const Model& model, const TokenBatch& batch,
                 ExecContext& ctx) {
  ForwardOutputs outputs;
  make_engine(engine, model, ctx)->forward(batch, outputs, ctx);
  const auto logits = outputs.values.find("logits");
  return std::move(logits != outputs.values.end() ? logits->second
                                                  : outputs.values.at("last_hidden_state"));
}

/// Quantizes the model in `dir` by `recipe` and writes it to `out`; the outputs before and after
/// must be the same bytes.
ExportSummary export_and_compare(const fs::path& dir, const std::string& recipe,
                                 const fs::path& out, std::vector<TokenBatch> samples = {}) {
  ExecContext ctx(2);
  Model model = load_model(Checkpoint::open(dir));
  if (samples.empty()) samples = some_samples(model);
  compress(model, samples, parse_recipe(recipe, "test"), ctx);
  const ExportSummary summary = export_compressed_tensors(model, out, true);
  const Model exported = load_model(Checkpoint::open(out));
  for (const char* engine : {"simulated", "simulated-exact", "integer"})
    EXPECT_TRUE(same_bytes(output_of(engine, model, samples[0], ctx),
                           output_of(engine, exported, samples[0], ctx)))
        << recipe << " " << engine;
  return summary;
}

Json quantization_config(const fs::path& dir) {
  return read_json_file(dir / "config.json")["quantization_config"];
}

std::string group_format(const fs::path& dir) {
  return quantization_config(dir)["config_groups"]["group_0"]["format"].get<std::string>();
}

/// A copy of the example that `change` makes another model of.
template <typename Change>
void copy_model(const fs::path& to, Change change) {
  fs::copy(kReviews / "model", to, fs::copy_options::recursive);
  Json config = read_json_file(to / "config.json");
  change(config);
  write_text_file(to / "config.json", config.dump());
}

TEST(Export, CodesOfFewBitsArePackedAndComeBack) {
  const quell::testing::ScratchDir dir;
  const char* weights[] = {"{symmetric: true, granularity: channel}",
                           "{symmetric: false, granularity: channel}",
                           "{symmetric: false, granularity: tensor}",
                           "{symmetric: true, granularity: group, group_size: 32}",
                           "{symmetric: false, granularity: group, group_size: 32}"};
  for (const char* scheme : {"W4A4", "W3A8", "W2A8"})
    for (const char* w : weights) {
      const bool groups = std::string(w).find("group_size") != std::string::npos;
      const std::string activations =
          groups ? "{symmetric: false, granularity: token, dynamic: true}" : "{symmetric: false}";
      export_and_compare(kReviews / "model",
                         str("{scheme: ", scheme, ", weights: ", w, ", activations: ", activations,
                             ", passes: [rtn]}"),
                         dir / "out");
      EXPECT_EQ(group_format(dir / "out"), "pack-quantized") << scheme << w;
    }
}

TEST(Export, FewerBitsTakeFewerBytes) {
  const quell::testing::ScratchDir dir;
  const ExportSummary eight =
      export_and_compare(kReviews / "model", "{scheme: W8A8, passes: [rtn]}", dir / "8");
  const ExportSummary four =
      export_and_compare(kReviews / "model", "{scheme: W4A4, passes: [rtn]}", dir / "4");
  const auto codes = static_cast<std::size_t>(StoredKind::kCodes);
  EXPECT_EQ(2 * four.bytes[codes], eight.bytes[codes]);
  EXPECT_LT(fs::file_size(dir / "4" / "model.safetensors"),
            fs::file_size(dir / "8" / "model.safetensors"));
  EXPECT_EQ(group_format(dir / "8"), "int-quantized");
  EXPECT_TRUE(eight.own_features.empty() && four.own_features.empty());
}

/// Codes a byte each, without a format of the group, as Quell wrote them before there were packed
/// ones.
TEST(Export, OlderFilesLoad) {
  const quell::testing::ScratchDir dir;
  export_and_compare(kReviews / "model", "{scheme: W4A4, passes: [{os_plus: {shift: always}}]}",
                     dir / "new");
  fs::copy(dir / "new", dir / "old", fs::copy_options::recursive);
  Json config = read_json_file(dir / "old" / "config.json");
  config["quantization_config"]["format"] = "int-quantized";
  config["quantization_config"]["config_groups"]["group_0"].erase("format");
  config["quell"]["version"] = 1;
  write_text_file(dir / "old" / "config.json", config.dump());

  const Checkpoint checkpoint = Checkpoint::open(dir / "new");
  std::map<std::string, TensorView> tensors;
  std::vector<Tensor> unpacked;
  unpacked.reserve(checkpoint.tensors().size());
  for (const auto& [name, view] : checkpoint.tensors()) {
    const std::string weight = name.substr(0, name.find(kPackedSuffix));
    if (name.ends_with(kShapeSuffix)) continue;
    if (weight == name) {
      tensors[name] = view;
      continue;
    }
    const auto sizes = to_i32(checkpoint.tensors().at(weight + kShapeSuffix), name);
    std::set<std::string> used;
    Tensor& codes = unpacked.emplace_back(DType::kI8, Shape{sizes[0], sizes[1]});
    const auto all = read_stored_codes(checkpoint, weight, codes.shape(), 4, used);
    std::copy(all.begin(), all.end(), codes.as<std::int8_t>().begin());
    tensors[weight] = codes;
  }
  write_safetensors(dir / "old" / "model.safetensors", tensors);
  EXPECT_GT(unpacked.size(), 4U);

  ExecContext ctx(2);
  const Model now = load_model(Checkpoint::open(dir / "new")),
              then = load_model(Checkpoint::open(dir / "old"));
  const TokenBatch batch = some_samples(now)[0];
  EXPECT_TRUE(
      same_bytes(output_of("integer", now, batch, ctx), output_of("integer", then, batch, ctx)));
}

TEST(Export, PackedCodesThatDoNotFitAreRefused) {
  const quell::testing::ScratchDir dir;
  export_and_compare(kReviews / "model", "{scheme: W4A4, passes: [rtn]}", dir / "out");
  const Checkpoint checkpoint = Checkpoint::open(dir / "out");
  const auto message = [&](const std::string& suffix, const Tensor& replacement) -> std::string {
    std::map<std::string, TensorView> tensors = checkpoint.tensors();
    const auto it = std::find_if(tensors.begin(), tensors.end(),
                                 [&](const auto& t) { return t.first.ends_with(suffix); });
    it->second = replacement;
    fs::remove_all(dir / "bad");
    fs::copy(dir / "out", dir / "bad", fs::copy_options::recursive);
    write_safetensors(dir / "bad" / "model.safetensors", tensors);
    try {
      load_model(Checkpoint::open(dir / "bad"));
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message("weight_packed", Tensor(DType::kI32, {1, 1})).find("expected I32 words"),
            std::string::npos);
  EXPECT_NE(message("weight_shape", Tensor(DType::kI64, {2})).find("is not the shape"),
            std::string::npos);
}

/// Where another reader would leave something out, the name of the format keeps it from reading at
/// all.
TEST(Export, TheFormatSaysWhoCanReadIt) {
  const quell::testing::ScratchDir dir;
  const auto formats = [&](const std::string& recipe) {
    const ExportSummary summary = export_and_compare(kReviews / "model", recipe, dir / "out");
    EXPECT_EQ(quantization_config(dir / "out")["format"], group_format(dir / "out"));
    EXPECT_EQ(summary.own_features.empty(), !group_format(dir / "out").starts_with("quell-"))
        << recipe;
    return group_format(dir / "out");
  };
  const std::string asymmetric = "activations: {symmetric: false}",
                    restricted = "activations: {symmetric: true, codes: restricted}";
  EXPECT_EQ(formats("{scheme: W8A8, passes: [rtn]}"), "int-quantized");
  EXPECT_EQ(formats("{scheme: W8A8, " + asymmetric + ", passes: [os_plus]}"),
            "quell-int-quantized");  // residual branches
  EXPECT_EQ(formats("{scheme: W4A4, passes: [os_plus]}"), "quell-pack-quantized");
  EXPECT_EQ(formats("{scheme: W8A8, " + restricted + ", passes: [rtn]}"), "quell-int-quantized");
  EXPECT_EQ(formats("{scheme: W8A8, activations: {symmetric: true, codes: full}, passes: [rtn]}"),
            "int-quantized");
  EXPECT_EQ(formats("{scheme: W8A8, residual: quantized, passes: [rtn]}"), "quell-int-quantized");
  EXPECT_EQ(formats("{scheme: W8A8, quantize: {attention: true}, passes: [rtn]}"),
            "quell-int-quantized");
  EXPECT_EQ(formats("{scheme: W8A8, quantize: {embeddings: true}, passes: [rtn]}"),
            "quell-int-quantized");
  EXPECT_EQ(formats("{scheme: W8A8, quantize: {head: true}, activations: {granularity: token, "
                    "dynamic: true, symmetric: false}, "
                    "passes: [rtn]}"),
            "quell-int-quantized");
}

/// What the library's classes do differently from what the layout means: found by
/// bench/compressed_checkpoint.py.
TEST(Export, ClassesThatWouldComputeSomethingElseAreKnown) {
  const auto format = [](const char* family, const char* recipe) -> std::string {
    const fs::path data = quell::testing::find_data(std::string("golden/models/") + family);
    if (data.empty()) return "";
    const quell::testing::ScratchDir dir;
    ExecContext ctx(2);
    Model model = load_model(Checkpoint::open(data));
    std::vector<TokenBatch> samples(1);
    samples[0].batch = 2, samples[0].length = 4;
    samples[0].ids = {5, 6, 7, 8, 9, 10, 11, 2};
    samples[0].mask.assign(8, 1);
    samples[0].type_ids.assign(8, 0);
    compress(model, samples, parse_recipe(recipe, "test"), ctx);
    export_compressed_tensors(model, dir / "out", false);
    return group_format(dir / "out");
  };
  if (quell::testing::find_data("golden/models/gpt2").empty())
    GTEST_SKIP() << "golden/models is not there; set QUELL_DATA";
  const char *eight = "{scheme: W8A8, passes: [rtn]}", *four = "{scheme: W4A4, passes: [rtn]}",
             *by_token =
                 "{scheme: W8A8, activations: {symmetric: false, granularity: token, dynamic: "
                 "true}, passes: [rtn]}";
  EXPECT_EQ(format("gpt2", eight), "quell-int-quantized");    // Conv1D
  EXPECT_EQ(format("opt", by_token), "quell-int-quantized");  // no axis of tokens in front of fc1
  EXPECT_EQ(format("opt", eight), "int-quantized");
  EXPECT_EQ(format("t5", four), "quell-pack-quantized");  // looks for weights
  EXPECT_EQ(format("t5", eight), "int-quantized");
  EXPECT_EQ(format("deberta-v2-cls", eight),
            "quell-int-quantized");  // relative embeddings stay float
  EXPECT_EQ(format("llama", by_token), "int-quantized");
}

TEST(Export, QuantizedEmbeddingsAreStoredAsCodes) {
  const quell::testing::ScratchDir dir;
  const auto embeddings = static_cast<std::size_t>(StoredKind::kEmbeddings);
  const ExportSummary plain =
      export_and_compare(kReviews / "model", "{scheme: W8A8, passes: [rtn]}", dir / "plain");
  const ExportSummary coded = export_and_compare(
      kReviews / "model", "{scheme: W8A8, quantize: {embeddings: true}, passes: [rtn]}", dir / "8");
  const ExportSummary packed = export_and_compare(
      kReviews / "model", "{scheme: W4A4, quantize: {embeddings: true}, passes: [rtn]}", dir / "4");
  EXPECT_EQ(4 * coded.bytes[embeddings], plain.bytes[embeddings]);
  EXPECT_EQ(8 * packed.bytes[embeddings], plain.bytes[embeddings]);
}

/// A tied head multiplies with the float table while the table's rows are looked up from codes.
TEST(Export, ATiedHeadKeepsItsFloatTable) {
  QUELL_NEED_DATA(data, "golden/models/bert-mlm");
  const quell::testing::ScratchDir dir;
  const Model model = load_model(Checkpoint::open(data));
  std::vector<TokenBatch> samples;
  TokenBatch batch;
  batch.batch = 2, batch.length = 4;
  batch.ids = {5, 6, 7, 8, 9, 10, 11, 12};
  batch.mask.assign(8, 1);
  batch.type_ids.assign(8, 0);
  samples.push_back(batch);
  export_and_compare(data, "{scheme: W8A8, quantize: {embeddings: true}, passes: [rtn]}",
                     dir / "out", samples);
}

TEST(Export, NamesAreThoseOfTheClass) {
  const quell::testing::ScratchDir dir;
  copy_model(dir / "bare", [](Json& config) { config["architectures"] = {"BertModel"}; });
  const auto has = [](const Json& list, const char* name) {
    return std::find(list.begin(), list.end(), name) != list.end();
  };
  const std::string recipe = "{scheme: W8A8, passes: [rtn]}";
  export_and_compare(kReviews / "model", recipe, dir / "head");
  export_and_compare(dir / "bare", recipe, dir / "out");

  const Checkpoint head = Checkpoint::open(dir / "head"), bare = Checkpoint::open(dir / "out");
  EXPECT_TRUE(head.tensors().contains("bert.encoder.layer.0.attention.self.query.weight_scale"));
  EXPECT_TRUE(bare.tensors().contains("encoder.layer.0.attention.self.query.weight_scale"));
  for (const auto& [name, view] : bare.tensors()) EXPECT_FALSE(name.starts_with("bert.")) << name;
  const Json of_head = quantization_config(dir / "head")["ignore"],
             of_bare = quantization_config(dir / "out")["ignore"];
  EXPECT_TRUE(has(of_head, "bert.pooler.dense") && has(of_head, "classifier")) << of_head;
  EXPECT_TRUE(has(of_bare, "pooler.dense")) << of_bare;
}

TEST(Export, FloatTensorsKeepTheirTypeWhereThatLosesNothing) {
  const quell::testing::ScratchDir dir;
  copy_model(dir / "half", [](Json& config) { config["torch_dtype"] = "bfloat16"; });
  const Checkpoint original = Checkpoint::open(kReviews / "model");
  std::vector<std::vector<std::uint16_t>> bits;
  bits.reserve(original.tensors().size());
  std::map<std::string, TensorView> tensors;
  for (const auto& [name, view] : original.tensors()) {
    std::vector<std::uint16_t>& values = bits.emplace_back();
    const Tensor exact = to_f32(view, name);
    for (const float v : exact.f32()) values.push_back(f32_to_bf16(v));
    tensors[name] = TensorView(values.data(), DType::kBF16, view.shape());
  }
  write_safetensors(dir / "half" / "model.safetensors", tensors);

  export_and_compare(dir / "half", "{scheme: W8A8, passes: [smoothquant]}", dir / "out");
  const Checkpoint out = Checkpoint::open(dir / "out");
  EXPECT_EQ(out.tensors().at("bert.embeddings.word_embeddings.weight").dtype(), DType::kBF16);
  EXPECT_EQ(out.tensors().at("bert.encoder.layer.0.output.LayerNorm.weight").dtype(),
            DType::kF32);  // migrated
}

TEST(Export, ItIsSaidWhatWasWritten) {
  const quell::testing::ScratchDir dir;
  copy_model(dir / "model", [](Json&) {});
  write_text_file(dir / "model" / "train.py", "x");
  const auto quantize = [&](const std::string& arguments) {
    return quell::testing::run_quell("quantize " + (dir / "model").string() + " " +
                                     (dir / "out").string() + " --force --calibration " +
                                     (kReviews / "calibration.tsv").string() +
                                     " --num-samples 16 --recipe " + arguments);
  };
  const auto minmax = quantize("minmax");
  EXPECT_EQ(minmax.exit_code, 0) << minmax.err;
  EXPECT_NE(minmax.err.find("weights: "), std::string::npos) << minmax.err;
  EXPECT_NE(minmax.err.find("divergence from float on "), std::string::npos);
  EXPECT_NE(minmax.err.find("not copied: train.py"), std::string::npos);
  EXPECT_EQ(minmax.err.find("only Quell reads"), std::string::npos);
  const auto os_plus = quantize("os_plus");
  EXPECT_NE(os_plus.err.find("only Quell reads this file"), std::string::npos) << os_plus.err;
  EXPECT_NE(os_plus.err.find("--recipe minmax"), std::string::npos);
}

}  // namespace
}  // namespace quell
