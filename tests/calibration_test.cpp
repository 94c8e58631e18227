// What calibration data is warned about, and layers that it tells nothing about.
#include <gtest/gtest.h>

#include <cmath>

#include "quell/base/log.h"
#include "quell/base/random.h"
#include "quell/compress/compress.h"
#include "quell/io/mapped_file.h"
#include "quell/job/calibration_check.h"
#include "quell/job/random_model.h"
#include "quell/text/data/recipe_library.h"
#include "tests/support/support.h"

namespace quell {
namespace {
using quell::testing::kReviews;
using quell::testing::ScratchDir;

/// All warnings while it lives.
class Warnings {
 public:
  Warnings() {
    set_log_sink([this](LogLevel level, const std::string& message) {
      all_ += level == LogLevel::kWarning ? message + "\n" : "";
    });
  }
  ~Warnings() { set_log_sink({}); }
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;

  const std::string& text() const { return all_; }
  bool say(const std::string& words) const { return all_.find(words) != std::string::npos; }

 private:
  std::string all_;
};

TEST(CalibrationFile, TablesReadAsText) {
  EXPECT_NE(table_in("text\tlabel\na, b\t1\nc\t0\n").find("tabs"), std::string::npos);
  EXPECT_NE(table_in("text,label\n\"a, b\",1\nc d,0\n").find("commas"), std::string::npos);
  EXPECT_NE(table_in("{\"text\": \"a\"}\n{\"text\": \"b\"}\n").find("JSON"), std::string::npos);
  EXPECT_EQ(table_in("Well, I went.\nSo, she came.\nOh, no.\n"), "");
  EXPECT_EQ(table_in("A text\twith a tab.\nAnd one without.\n"), "");
  EXPECT_EQ(table_in("one,two\nthree\n"), "");
  EXPECT_EQ(table_in("\"a,b\nc,d\n"), "");
  EXPECT_EQ(table_in("a\tb\n"), "");  // one line says nothing
}

TEST(CalibrationFile, SharedSamplesAreFoundByTheirRuns) {
  Random random(2);
  const auto draw = [&](std::size_t n) {
    TokenSequence s;
    for (std::size_t i = 0; i < n; ++i)
      s.ids.push_back(static_cast<std::int32_t>(random.uniform() * 1000));
    return s;
  };
  const TokenSequence stream = draw(300), other = draw(60), word = draw(3);
  const auto slice = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    return TokenSequence{{stream.ids.begin() + begin, stream.ids.begin() + end}, {}, {}};
  };
  const std::vector<TokenSequence> evaluated = {slice(0, 128), slice(128, 256), word};
  EXPECT_EQ(count_shared_samples({slice(10, 70), slice(100, 160)}, evaluated),
            2);  // the second lies across a border
  EXPECT_EQ(count_shared_samples({other, slice(256, 300), draw(3)}, evaluated), 0);
  EXPECT_EQ(count_shared_samples({word}, evaluated), 1);
}

class ReviewsCalibration : public ::testing::Test {
 protected:
  void check(const std::filesystem::path& calibration, std::int64_t skip,
             const std::filesystem::path& data, std::int64_t limit) {
    const Model model = load_model(Checkpoint::open(kReviews / "model"));
    CalibrationChoice choice{.data = {calibration, {}}, .skip = skip};
    EvalOptions options;
    options.task = "classification";
    options.limit = limit;
    const DataChoice eval_data{data, {}};
    const EvalSet set = load_eval_set(options, eval_data, model);
    check_calibration_against(choice, quell::testing::load_sequences(choice, model), options,
                              eval_data, set);
  }
  Warnings warnings;
};

TEST_F(ReviewsCalibration, TheEvaluationFileItself) {
  check(kReviews / "eval.tsv", 0, kReviews / "eval.tsv", 0);
  EXPECT_TRUE(warnings.say("128 of 128 calibration samples are in the evaluation data"))
      << warnings.text();
}

TEST_F(ReviewsCalibration, ACopyOfTheEvaluationFile) {
  const ScratchDir dir;
  std::filesystem::copy_file(kReviews / "eval.tsv", dir / "copy.tsv");
  check(dir / "copy.tsv", 0, kReviews / "eval.tsv", 500);
  EXPECT_TRUE(warnings.say("evaluation data")) << warnings.text();
}

TEST_F(ReviewsCalibration, OtherRowsOfOneFileAndOtherFilesAreFine) {
  check(kReviews / "eval.tsv", 500, kReviews / "eval.tsv", 500);
  check(kReviews / "calibration.tsv", 0, kReviews / "eval.tsv", 0);
  EXPECT_EQ(warnings.text(), "");
}

TEST_F(ReviewsCalibration, AHandfulOfRows) {
  const ScratchDir dir;
  write_text_file(dir / "few.tsv",
                  "sentence\tlabel\nthe plot was neat .\tpositive\nit was dull .\t\n");
  const Model model = load_model(Checkpoint::open(kReviews / "model"));
  EXPECT_EQ(quell::testing::load_sequences({.data = {dir / "few.tsv", {}}}, model).size(), 2U);
  EXPECT_TRUE(warnings.say("only 2 samples")) << warnings.text();
}

TEST_F(ReviewsCalibration, AsManyAsWereAskedForAreNoHandful) {
  const Model model = load_model(Checkpoint::open(kReviews / "model"));
  EXPECT_EQ(quell::testing::load_sequences(
                {.data = {kReviews / "calibration.tsv", {}}, .num_samples = 4}, model)
                .size(),
            4U);
  EXPECT_EQ(warnings.text(), "");
}

TEST_F(ReviewsCalibration, ColumnsOfAFileWithoutColumns) {
  const ScratchDir dir;
  write_text_file(dir / "table.txt", "sentence\tlabel\nthe plot was neat .\t1\n");
  const Model model = load_model(Checkpoint::open(kReviews / "model"));
  (void)quell::testing::load_sequences({.data = {dir / "table.txt", {{"sentence"}, ""}}}, model);
  EXPECT_TRUE(warnings.say("columns between tabs")) << warnings.text();
  EXPECT_TRUE(warnings.say("--text-column is not looked at")) << warnings.text();
}

/// Models of two layers with random weights, of which some are then set to 0.
class DeadLayer : public ::testing::Test {
 protected:
  static Model make(const std::string& config) {
    Model model = make_zero_model(config);
    Random random(7);
    for (Param& p : model.params) {
      if (p.tied_to < 0 && p.weight.defined())
        for (float& v : p.weight.f32())
          v = (p.weight.shape().rank() == 1 ? 1.0F : 0.0F) +
              0.3F * static_cast<float>(2 * random.uniform() - 1);
      if (p.bias.defined())
        for (float& v : p.bias.f32()) v = 0.1F * static_cast<float>(2 * random.uniform() - 1);
    }
    return model;
  }
  static Model bert() {
    return make(
        R"({"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 40, "hidden_size": 32,
      "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "hidden_act": "gelu",
      "max_position_embeddings": 16, "type_vocab_size": 1, "layer_norm_eps": 1e-12})");
  }
  static Model llama() {
    return make(
        R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 40, "hidden_size": 32,
      "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 64, "hidden_act": "silu",
      "max_position_embeddings": 16, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false})");
  }
  /// Weights and biases of modules whose names end in `module`: all, or the first `channels`
  /// entries.
  static void silence(Model& model, const std::string& module, std::size_t channels = SIZE_MAX) {
    bool found = false;
    for (Param& p : model.params) {
      if (!p.module.ends_with(module)) continue;
      found = true;
      for (Tensor* t : {&p.weight, &p.bias}) {
        if (!t->defined()) continue;
        const std::span<float> values = t->f32();
        std::fill_n(values.begin(), std::min(channels, values.size()), 0.0F);
      }
    }
    ASSERT_TRUE(found) << module;
  }
  static void quantize(Model model, const std::string& recipe, const std::string& what) {
    Random random(9);
    std::vector<TokenSequence> sequences(24);
    for (TokenSequence& s : sequences)
      for (int i = 0; i < 10; ++i)
        s.ids.push_back(static_cast<std::int32_t>(random.uniform() * 40));
    const std::vector<TokenBatch> samples = make_batches(sequences, 8, 0);
    ExecContext ctx(1);
    ASSERT_NO_THROW(compress(model, samples, quell::testing::quick_recipe(recipe), ctx))
        << recipe << ", " << what;
    ForwardOutputs outputs;
    make_simulated_model(model, false, ctx.isa)->forward(samples.front(), outputs, ctx);
    for (const auto& [name, values] : outputs.values)
      for (const float v : values.f32())
        ASSERT_TRUE(std::isfinite(v)) << recipe << ", " << what << ", " << name;
  }
};

class DeadLayers : public DeadLayer, public ::testing::WithParamInterface<std::string> {};

TEST_P(DeadLayers, OfBert) {
  for (const char* module : {"layer.0.attention.self.value", "layer.0.attention.self.query",
                             "layer.1.intermediate.dense", "layer.0.output.dense",
                             "layer.0.attention.output.LayerNorm"}) {
    Model model = bert();
    silence(model, module);
    quantize(std::move(model), GetParam(), module);
  }
}

TEST_P(DeadLayers, OfLlama) {
  for (const char* module :
       {"layers.0.mlp.up_proj", "layers.1.mlp.gate_proj", "layers.0.self_attn.v_proj",
        "layers.1.mlp.down_proj", "layers.0.input_layernorm", "embed_tokens"}) {
    Model model = llama();
    silence(model, module);
    quantize(std::move(model), GetParam(), module);
  }
}

TEST_P(DeadLayers, SingleChannels) {
  Model model = bert();
  for (const char* norm : {"embeddings.LayerNorm", "layer.0.output.LayerNorm"})
    silence(model, norm, 3);
  quantize(std::move(model), GetParam(), "channels of norms");
  Model other = llama();
  silence(other, "up_proj", 5 * 32);  // rows: five channels of what down_proj reads
  silence(other, "post_attention_layernorm", 3);
  quantize(std::move(other), GetParam(), "channels in front of linears");
}

INSTANTIATE_TEST_SUITE_P(Recipes, DeadLayers, ::testing::ValuesIn(quantization_recipes().names()),
                         [](const auto& info) { return info.param; });

TEST_F(DeadLayer, IsNamedOnce) {
  for (const char* recipe : {"os_plus_gptq", "os_plus_adaround"}) {
    const Warnings warnings;
    Model model = llama();
    silence(model, "layers.0.mlp.up_proj");
    quantize(std::move(model), recipe, "warnings");
    EXPECT_TRUE(warnings.say("down_proj: all its inputs are 0")) << warnings.text();
    EXPECT_EQ(std::count(warnings.text().begin(), warnings.text().end(), '\n'), 1)
        << warnings.text();
  }
}

}  // namespace
}  // namespace quell
