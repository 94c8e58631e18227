// What lies in a model directory beside config.json: tensors under other names, tied tables, other
// tools' quantization, files that count and files that do not, --accept.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/base/random.h"
#include "quell/exporting/float_checkpoint.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "quell/job/random_model.h"
#include "quell/model/generation_settings.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;
using quell::testing::run_quell;
using quell::testing::ScratchDir;

constexpr const char* kLlama =
    R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 20, "hidden_size": 8,
    "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": 16,
    "tie_word_embeddings": true})";
constexpr const char* kBert =
    R"({"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 20, "hidden_size": 8,
    "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": 16})";
constexpr const char* kBart =
    R"({"model_type": "bart", "architectures": ["BartForConditionalGeneration"], "vocab_size": 20,
    "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 12, "decoder_ffn_dim": 12, "max_position_embeddings": 16})";
constexpr const char* kT5 =
    R"({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 20, "d_model": 8,
    "d_kv": 4, "num_heads": 2, "num_layers": 1, "d_ff": 12})";

/// A checkpoint whose tensors and settings a test changes before it is read.
class SmallCheckpoint {
 public:
  explicit SmallCheckpoint(const char* config) {
    Model model = make_zero_model(config);
    Random random(1);
    for (Param& p : model.params)
      for (Tensor* t : {&p.weight, &p.bias})
        if (t->defined())
          for (float& v : t->f32()) v = static_cast<float>(random.uniform()) - 0.4F;
    export_float_checkpoint(model, dir_ / "model", false);

    const SafetensorsFile file(path() / "model.safetensors");
    for (const auto& [name, view] : file.tensors()) tensors[name] = to_f32(view, name);
    this->config = read_json_file(path() / "config.json");
  }

  fs::path path() const { return dir_ / "model"; }
  /// Writes what is in `tensors` and `config`.
  void write() const {
    std::map<std::string, TensorView> views;
    for (const auto& [name, tensor] : tensors) views[name] = tensor;
    write_safetensors(path() / "model.safetensors", views, {});
    write_file("config.json", config);
  }
  void write_file(const std::string& name, const Json& content) const {
    std::ofstream(path() / name) << content.dump();
  }
  Tensor shifted(const std::string& name, float by) const {
    Tensor t = tensors.at(name).clone();
    for (float& v : t.f32()) v += by;
    return t;
  }

  std::map<std::string, Tensor> tensors;
  Json config;

 private:
  ScratchDir dir_;
};

/// Warnings while something runs.
std::vector<std::string> warnings_of(const std::function<void()>& run) {
  std::vector<std::string> out;
  set_log_sink([&](LogLevel level, const std::string& message) {
    if (level == LogLevel::kWarning) out.push_back(message);
  });
  run();
  set_log_sink({});
  return out;
}

std::vector<float> logits_of(const fs::path& dir) {
  ExecContext ctx(1);
  const Model model = load_model(Checkpoint::open(dir));
  TokenBatch batch;
  batch.batch = 1;
  batch.ids = {3, 4, 5, 6};
  batch.length = 4;
  batch.mask.assign(4, 1);
  batch.type_ids.assign(4, 0);
  if (model.graph.is_encoder_decoder()) {
    batch.decoder_length = 3;
    batch.decoder_ids = {2, 7, 8};
    batch.decoder_mask.assign(3, 1);
  }
  ForwardOutputs outputs;
  make_float_model(model)->forward(batch, outputs, ctx);
  const auto values = outputs.values.at("logits").f32();
  return {values.begin(), values.end()};
}

struct Tie {
  const char *name, *config, *table, *head;
};
class TiedTables : public ::testing::TestWithParam<Tie> {};

TEST_P(TiedTables, MayBeStoredUnderAnyOfTheirNames) {
  SmallCheckpoint checkpoint(GetParam().config);
  const std::vector<float> expected = logits_of(checkpoint.path());

  checkpoint.tensors[GetParam().head] = checkpoint.tensors.at(GetParam().table).clone();
  checkpoint.write();
  EXPECT_TRUE(
      warnings_of([&] { EXPECT_EQ(logits_of(checkpoint.path()), expected) << "both"; }).empty());

  checkpoint.tensors.erase(GetParam().table);
  checkpoint.write();
  EXPECT_TRUE(warnings_of([&] {
                EXPECT_EQ(logits_of(checkpoint.path()), expected) << "only the other one";
              }).empty());
}

TEST_P(TiedTables, ThatDifferAreNotTied) {
  SmallCheckpoint checkpoint(GetParam().config);
  const std::vector<float> tied = logits_of(checkpoint.path());
  checkpoint.tensors[GetParam().head] = checkpoint.shifted(GetParam().table, 0.5F);
  checkpoint.write();
  std::vector<float> separate;
  const auto warnings = warnings_of([&] { separate = logits_of(checkpoint.path()); });
  EXPECT_NE(separate, tied);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find(GetParam().head), std::string::npos) << warnings[0];

  // Written again, it is the same model.
  const ScratchDir out;
  export_float_checkpoint(load_model(Checkpoint::open(checkpoint.path())), out / "again", false);
  EXPECT_EQ(logits_of(out / "again"), separate);
}

INSTANTIATE_TEST_SUITE_P(
    All, TiedTables,
    ::testing::Values(
        Tie{"llama", kLlama, "model.embed_tokens.weight", "lm_head.weight"},
        Tie{"bert", kBert, "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.weight"},
        Tie{"bart", kBart, "model.shared.weight", "lm_head.weight"},
        Tie{"bart_encoder", kBart, "model.shared.weight", "model.encoder.embed_tokens.weight"},
        Tie{"bart_decoder", kBart, "model.shared.weight", "model.decoder.embed_tokens.weight"},
        Tie{"t5", kT5, "shared.weight", "lm_head.weight"},
        Tie{"t5_encoder", kT5, "shared.weight", "encoder.embed_tokens.weight"},
        Tie{"t5_decoder", kT5, "shared.weight", "decoder.embed_tokens.weight"}),
    [](const auto& info) { return info.param.name; });

/// Where the shared table itself is missing, its names stand in, in the order in which
/// transformers' class ties them: of BART the head's comes first, of T5 the encoder's.
TEST(SharedTables, StandInsComeInTheFamilysOrder) {
  struct Case {
    const char* config;
    const char* table;
    const char* first;
    const char* second;
  };
  for (const Case& c :
       {Case{kBart, "model.shared.weight", "lm_head.weight", "model.decoder.embed_tokens.weight"},
        Case{kBart, "model.shared.weight", "model.decoder.embed_tokens.weight",
             "model.encoder.embed_tokens.weight"},
        Case{kT5, "shared.weight", "encoder.embed_tokens.weight", "lm_head.weight"}}) {
    SmallCheckpoint checkpoint(c.config);
    checkpoint.tensors[c.first] = checkpoint.tensors.at(c.table).clone();
    checkpoint.tensors[c.second] = checkpoint.shifted(c.table, 0.5F);
    checkpoint.write();
    const std::vector<float> expected = logits_of(checkpoint.path());

    checkpoint.tensors.erase(c.table);
    checkpoint.write();
    EXPECT_EQ(logits_of(checkpoint.path()), expected) << c.first << " before " << c.second;
  }
}

/// A shared table that every side has a copy of its own of is part of the model all the same.
TEST(SharedTables, ATableThatNobodyReadsIsKept) {
  SmallCheckpoint checkpoint(kT5);
  for (const char* name :
       {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"})
    checkpoint.tensors[name] = checkpoint.shifted("shared.weight", 0.5F);
  checkpoint.write();
  const Model model = load_model(Checkpoint::open(checkpoint.path()));
  EXPECT_TRUE(model.unused_tensors.empty());
  EXPECT_TRUE(std::any_of(model.params.begin(), model.params.end(),
                          [](const Param& p) { return p.module == "shared"; }));
}

TEST(Tensors, ABiasUnderTwoNamesIsTheLinearsOwn) {
  SmallCheckpoint checkpoint(kBert);
  const std::string own = "cls.predictions.decoder.bias", other = "cls.predictions.bias";
  const std::vector<float> expected = logits_of(checkpoint.path());
  checkpoint.tensors[own] = checkpoint.tensors.at(other).clone();
  checkpoint.tensors[other] = checkpoint.shifted(other, 1);
  checkpoint.write();
  EXPECT_EQ(logits_of(checkpoint.path()), expected);
}

TEST(Tensors, KnownBuffersAreSilentAndOthersAreNamedOnce) {
  SmallCheckpoint checkpoint(kBert);
  const auto add = [&](const std::string& name, const Shape& shape) {
    checkpoint.tensors[name] = Tensor::f32(shape);
  };
  add("bert.embeddings.position_ids", {1, 16});
  add("bert.pooler.dense.weight", {8, 8});
  add("cls.seq_relationship.weight", {2, 8});
  checkpoint.write();
  EXPECT_TRUE(warnings_of([&] { load_model(Checkpoint::open(checkpoint.path())); }).empty());

  for (int i = 0; i < 5; ++i) add("bert.encoder.layer.7.extra_" + std::to_string(i), {8});
  checkpoint.write();
  const auto warnings = warnings_of([&] {
    load_model(Checkpoint::open(checkpoint.path()));
    load_model(Checkpoint::open(checkpoint.path()));
  });
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("5 tensors"), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[0].find("layer.7.extra_0"), std::string::npos) << warnings[0];
}

std::string message_of(const fs::path& dir) {
  try {
    load_model(Checkpoint::open(dir));
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Tensors, NamesOfWrappersAreExplained) {
  SmallCheckpoint checkpoint(kLlama);
  std::map<std::string, Tensor> wrapped;
  for (auto& [name, tensor] : checkpoint.tensors) wrapped["_orig_mod." + name] = std::move(tensor);
  checkpoint.tensors = std::move(wrapped);
  checkpoint.write();
  EXPECT_NE(message_of(checkpoint.path()).find("\"_orig_mod.\""), std::string::npos)
      << message_of(checkpoint.path());
}

TEST(Tensors, EncodersMayComeWithoutPooler) {
  Json config = Json::parse(kBert);
  config["architectures"] = {"BertModel"};
  SmallCheckpoint checkpoint(config.dump().c_str());
  for (const char* name : {"pooler.dense.weight", "pooler.dense.bias"})
    EXPECT_EQ(checkpoint.tensors.erase(name), 1U) << name;
  checkpoint.write();
  const Model model = load_model(Checkpoint::open(checkpoint.path()));
  ASSERT_EQ(model.graph.outputs.size(), 1U);
  EXPECT_EQ(model.graph.outputs[0].first, "last_hidden_state");
}

TEST(Tensors, BareDecodersMayComeWithoutHead) {
  Json config = Json::parse(kLlama);
  config.update({{"architectures", {"LlamaModel"}}, {"tie_word_embeddings", false}});
  SmallCheckpoint checkpoint(config.dump().c_str());
  EXPECT_EQ(checkpoint.tensors.erase("lm_head.weight"), 1U);
  checkpoint.write();
  const Model model = load_model(Checkpoint::open(checkpoint.path()));
  ASSERT_EQ(model.graph.outputs.size(), 1U);
  EXPECT_EQ(model.graph.outputs[0].first, "last_hidden_state");
  checkpoint.config["architectures"] = {"LlamaForCausalLM"};
  checkpoint.write();
  EXPECT_NE(message_of(checkpoint.path()).find("lm_head.weight\" is missing"), std::string::npos);
}

TEST(Quantized, IntegersWithoutScalesAreRefused) {
  SmallCheckpoint checkpoint(kLlama);
  for (const DType type : {DType::kI8, DType::kU8, DType::kI32}) {
    checkpoint.tensors["model.layers.0.self_attn.q_proj.weight"] = Tensor(type, {8, 8});
    checkpoint.write();
    const std::string message = message_of(checkpoint.path());
    EXPECT_NE(message.find("q_proj.weight\" holds " + std::string(dtype_name(type))),
              std::string::npos)
        << message;
  }
}

TEST(Quantized, OtherFormatsAreNamedWithoutAQuantizationConfig) {
  for (const auto& [ending, words] : {std::pair(".qweight", "GPTQ"),
                                      {".weight_packed", "pack-quantized"},
                                      {".base_layer.weight", "peft"}}) {
    SmallCheckpoint checkpoint(kLlama);
    const std::string module = "model.layers.0.self_attn.q_proj";
    checkpoint.tensors[module + ending] = checkpoint.tensors.at(module + ".weight").clone();
    checkpoint.tensors.erase(module + ".weight");
    checkpoint.write();
    EXPECT_NE(message_of(checkpoint.path()).find(words), std::string::npos)
        << message_of(checkpoint.path());
  }
}

TEST(Quantized, OtherMethodsAreNamedBeforeTensorsAreRead) {
  const char* ours =
      R"({"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"group_0": {
      "targets": ["Linear"], "weights": {"num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel", "dynamic": false},
      "input_activations": {"num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true}}}})";
  const auto expect = [&](const Json& change, const std::string& words) {
    SmallCheckpoint checkpoint(kLlama);
    checkpoint.config["quantization_config"] = Json::parse(ours);
    checkpoint.config["quantization_config"].merge_patch(change);
    checkpoint.write();
    fs::resize_file(checkpoint.path() / "model.safetensors", 4);
    const std::string message = message_of(checkpoint.path());
    EXPECT_NE(message.find(words), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
    EXPECT_NE(message.find("quantization_config"), std::string::npos) << message;
  };
  for (const char* method : {"gptq", "awq", "bitsandbytes", "hqq", "eetq", "fp8", "torchao"})
    expect({{"quant_method", method}}, method);
  for (const char* format : {"float-quantized", "marlin-24", "nvfp4-pack-quantized", "dense"})
    expect({{"format", format}}, format);
  expect({{"quant_method", nullptr}, {"load_in_8bit", true}}, "bitsandbytes");
  expect({{"kv_cache_scheme", {{"num_bits", 8}}}}, "kv_cache_scheme");
  expect({{"sparsity_config", {{"format", "sparse-24-bitmask"}}}}, "sparse-24-bitmask");
  expect({{"transform_config", {{"config_groups", {{"R1", 1}}}}}}, "transform_config");
  const auto group = [](const Json& change) {
    return Json{{"config_groups", {{"group_0", change}}}};
  };
  expect({{"format", "pack-quantized"},
          {"config_groups", {{"group_0", {{"input_activations", nullptr}}}}}},
         "pack-quantized");
  expect({{"config_groups", {{"group_1", {{"targets", {"Linear"}}}}}}}, "several config_groups");
  expect(group({{"targets", {"re:.*q_proj"}}}), "re:.*q_proj");
  expect(group({{"output_activations", {{"num_bits", 8}}}}), "output_activations");
  expect(group({{"input_activations", nullptr}}), "input_activations");
  expect(group({{"weights", {{"actorder", "group"}}}}), "actorder");
  expect(group({{"weights", {{"type", "float"}}}}), "float");
}

TEST(Files, AdaptersAreRefusedUnlessAccepted) {
  const SmallCheckpoint checkpoint(kLlama);
  checkpoint.write_file("adapter_config.json", {{"peft_type", "LORA"}});
  EXPECT_NE(message_of(checkpoint.path()).find("adapter_config.json"), std::string::npos);
  EXPECT_NO_THROW(
      load_model(Checkpoint::open(ModelDirectory(checkpoint.path(), {"adapter_config.json"}))));
}

TEST(Files, OtherWeightsBesideThoseThatCountAreNamed) {
  const SmallCheckpoint checkpoint(kLlama);
  fs::copy_file(checkpoint.path() / "model.safetensors",
                checkpoint.path() / "consolidated.safetensors");
  checkpoint.write_file("model.safetensors.index.json", {{"weight_map", Json::object()}});
  const auto warnings = warnings_of([&] { load_model(Checkpoint::open(checkpoint.path())); });
  ASSERT_EQ(warnings.size(), 1U);
  for (const char* name : {"consolidated.safetensors", "model.safetensors.index.json"})
    EXPECT_NE(warnings[0].find(name), std::string::npos) << warnings[0];
}

TEST(Files, GenerationConfigCountsAlone) {
  SmallCheckpoint checkpoint(kLlama);
  checkpoint.config.update({{"eos_token_id", 5}, {"no_repeat_ngram_size", 3}});
  checkpoint.write();
  GenerationSettings settings = read_generation_settings(checkpoint.path());
  EXPECT_EQ(settings.eos_token_ids, std::vector<std::int32_t>{5});
  EXPECT_EQ(settings.no_repeat_ngram_size, 3) << "older models say it in config.json";

  checkpoint.write_file("generation_config.json",
                        {{"eos_token_id", {7, 8}}, {"do_sample", true}, {"temperature", 0.6}});
  settings = read_generation_settings(checkpoint.path());
  EXPECT_EQ(settings.eos_token_ids, (std::vector<std::int32_t>{7, 8}));
  EXPECT_EQ(settings.no_repeat_ngram_size, 0);
  EXPECT_EQ(settings.drawing, (std::vector<std::string>{"do_sample: true", "temperature: 0.6"}));

  checkpoint.write_file("generation_config.json", {{"guidance_scale", 1.5}});
  EXPECT_THROW(read_generation_settings(checkpoint.path()), Error);
  EXPECT_NO_THROW(read_generation_settings(ModelDirectory(checkpoint.path(), {"guidance_scale"})));

  checkpoint.write_file("generation_config.json", {{"frobnication", 1}});
  const auto warnings = warnings_of([&] { read_generation_settings(checkpoint.path()); });
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("frobnication"), std::string::npos);
}

/// A classifier of decoders reads the last token that is not the padding token, as the reference
/// does, on whichever side it is.
TEST(Classifiers, ReadTheLastTokenThatIsNotPadding) {
  Json config = Json::parse(kLlama);
  config.update({{"architectures", {"LlamaForSequenceClassification"}},
                 {"pad_token_id", 2},
                 {"eos_token_id", 2}});
  SmallCheckpoint checkpoint(config.dump().c_str());
  ExecContext ctx(1);
  const auto logits = [&](const std::vector<std::int32_t>& ids,
                          const std::vector<std::int32_t>& mask) {
    const Model model = load_model(Checkpoint::open(checkpoint.path()));
    TokenBatch batch;
    batch.batch = 1;
    batch.length = static_cast<std::int64_t>(ids.size());
    batch.ids = ids;
    batch.mask = mask;
    batch.type_ids.assign(ids.size(), 0);
    ForwardOutputs outputs;
    make_float_model(model)->forward(batch, outputs, ctx);
    return outputs.values.at("logits").f32()[0];
  };
  const float plain = logits({5, 6, 7}, {1, 1, 1});
  EXPECT_NEAR(logits({5, 6, 7, 2}, {1, 1, 1, 1}), plain, 1e-5)
      << "an end token that is the padding token";
  EXPECT_NEAR(logits({5, 6, 7, 2, 2}, {1, 1, 1, 0, 0}), plain, 1e-5) << "padded right";
  EXPECT_NEAR(logits({2, 2, 5, 6, 7}, {0, 0, 1, 1, 1}), plain, 1e-5) << "padded left";

  checkpoint.config["pad_token_id"] = nullptr;
  checkpoint.write();
  EXPECT_GT(std::fabs(logits({5, 6, 7, 2}, {1, 1, 1, 1}) - plain), 1e-4)
      << "without one, the last token counts";
}

TEST(Accept, IsRecordedInWhatIsWritten) {
  SmallCheckpoint checkpoint(kBert);
  checkpoint.config["position_embedding_type"] = "relative_key";
  checkpoint.write();
  const ScratchDir scratch;
  const std::string model = "'" + checkpoint.path().string() + "'",
                    out = "'" + (scratch / "out").string() + "'";

  const auto refused = run_quell("inspect " + model);
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.err.find("--accept position_embedding_type"), std::string::npos) << refused.err;
  EXPECT_EQ(run_quell("inspect " + model + " --accept position_embedding_type").exit_code, 0);
  const auto unmet =
      run_quell("inspect " + model + " --accept position_embedding_type --accept is_decoder");
  EXPECT_EQ(unmet.exit_code, 2) << unmet.err;
  EXPECT_NE(unmet.err.find("--accept is_decoder"), std::string::npos) << unmet.err;

  std::ofstream ids(scratch / "ids.jsonl");
  for (int i = 0; i < 8; ++i)
    ids << R"({"input_ids": [3, 4, 5, 6]})"
        << "\n";
  ids.close();
  for (const char* format : {"float", "compressed-tensors"}) {
    const auto written = run_quell(
        "quantize " + model + " " + out + " --recipe minmax --calibration '" +
        (scratch / "ids.jsonl").string() + "' --accept position_embedding_type --format " + format);
    ASSERT_EQ(written.exit_code, 0) << written.err;
    EXPECT_EQ(read_json_file(scratch / "out/config.json")["quell"]["accepted"],
              Json::array({"position_embedding_type"}));
    EXPECT_EQ(run_quell("inspect " + out).exit_code, 0) << format;
    fs::remove_all(scratch / "out");
  }
}

TEST(Inspect, SaysWhatWasReadFromWhichFile) {
  SmallCheckpoint checkpoint(kLlama);
  checkpoint.config.update({{"frobnication", 1}, {"attention_dropout", 0.1}});
  checkpoint.write();
  checkpoint.write_file("generation_config.json", {{"eos_token_id", 2}, {"guidance_scale", 2}});
  checkpoint.write_file("tokenizer.json", {{"model", {{"type", "Nonsense"}}}});
  const auto r = run_quell("inspect '" + checkpoint.path().string() + "' --json -");
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const Json report = parse_json(r.out, "report");
  const Json& file = report["files"][0];
  const auto has = [&](const char* list, const char* key) {
    return std::find(file[list].begin(), file[list].end(), key) != file[list].end();
  };
  EXPECT_EQ(file["file"], "config.json");
  EXPECT_TRUE(has("read", "hidden_size")) << file;
  EXPECT_TRUE(has("without_effect", "attention_dropout")) << file;
  EXPECT_TRUE(has("not_known", "frobnication")) << file;
  EXPECT_NE(report["refused"]["generation"].get<std::string>().find("guidance_scale"),
            std::string::npos);
  EXPECT_TRUE(report["refused"].contains("tokenizer"));
  const auto text = run_quell("inspect '" + checkpoint.path().string() + "'");
  EXPECT_NE(text.out.find("not known, not used: frobnication"), std::string::npos) << text.out;
}

/// Every model that is there loads, and says what it said before.
TEST(SharedModels, LoadWithoutNewWarnings) {
  // What cannot be read: embeddings that were never there, another architecture.
  const std::map<std::string, std::string> refused = {
      {"bert-tiny-sst2-encoder", "word_embeddings.weight\" is missing"},
      {"gpt-nano-sort", "model_type \"gpt-nano\" is not supported"}};
  int found = 0;
  for (const char* parent : {"models", "golden/models"}) {
    const fs::path all = quell::testing::find_data(parent);
    if (all.empty()) continue;
    for (const auto& entry : fs::directory_iterator(all)) {
      if (!fs::exists(entry.path() / "config.json")) continue;
      const Json config = read_json_file(entry.path() / "config.json");
      if (!config.contains("model_type")) continue;
      const std::string name = entry.path().filename().string();
      const auto warnings = warnings_of([&] {
        const std::string message = message_of(entry.path());
        EXPECT_EQ(message.empty(), !refused.contains(name)) << message;
        EXPECT_TRUE(message.empty() || message.find(refused.at(name)) != std::string::npos)
            << message;
        if (!fs::exists(entry.path() / "generation_config.json")) return;
        EXPECT_NO_THROW(read_generation_settings(entry.path())) << name;
      });
      EXPECT_TRUE(warnings.empty()) << warnings.front();
      ++found;
    }
  }
  if (found == 0) GTEST_SKIP() << "no models are there; set QUELL_DATA";
}

}  // namespace
}  // namespace quell
