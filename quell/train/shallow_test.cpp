#include "quell/train/shallow.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "quell/base/error.h"
#include "quell/exporting/float_checkpoint.h"
#include "quell/io/json.h"
#include "quell/train/small_models.h"
#include "quell/train/tiny_configs.h"
#include "quell/train/torch_model.h"
#include "tests/support/scratch_dir.h"

namespace quell::train {
namespace {
namespace fs = std::filesystem;

Model random_teacher(const Json& config) {
  Model model = random_model(build_architecture(Settings(config)));
  model.config = config;
  return model;
}

torch::Tensor logits_of(const Model& model) {
  const torch::NoGradGuard guard;
  return TorchModel(model).forward(small_batch(kTinyWords)).values.at("logits");
}

const Tensor& weight_at(const Model& model, const std::string& label) {
  return model.param_of(model.graph.find(label)).weight;
}

bool same(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::equal(a.f32().begin(), a.f32().end(), b.f32().begin());
}

/// Layers 1, 3 and 5 of six; the student, saved and loaded again.
void check_student(const Json& config, const char* key, const char* table, const char* linear) {
  const Model teacher = random_teacher(config);
  const Model student = make_shallow_student(teacher, 3, "");
  EXPECT_EQ(student.graph.stacks[0].layers, 3);
  EXPECT_EQ(student.config->at(key), 3);
  EXPECT_TRUE(same(weight_at(student, table), weight_at(teacher, table)));
  for (int l = 0; l < 3; ++l) {
    const std::string of_student = "layers." + std::to_string(l) + "." + linear;
    const std::string of_teacher = "layers." + std::to_string(2 * l + 1) + "." + linear;
    EXPECT_TRUE(same(weight_at(student, of_student), weight_at(teacher, of_teacher))) << l;
  }

  const testing::ScratchDir dir;
  const fs::path out = dir / "student";
  export_float_checkpoint(student, out, true);
  const Model loaded = load_model(Checkpoint::open(out));
  EXPECT_EQ(loaded.graph.stacks[0].layers, 3);
  EXPECT_TRUE(logits_of(loaded).equal(logits_of(student)));
  EXPECT_FALSE(logits_of(student).equal(logits_of(teacher)));
}

TEST(ShallowStudent, OfBertIsSavedAndLoaded) {
  check_student(tiny_bert(6), "num_hidden_layers", "word_embeddings", "fc1");
}

TEST(ShallowStudent, OfGpt2IsSavedAndLoaded) {
  check_student(tiny_gpt2(6), "n_layer", "word_embeddings", "q_proj");
}

TEST(ShallowStudent, WithAllLayersIsTheTeacher) {
  const Model teacher = random_teacher(tiny_bert(2));
  EXPECT_TRUE(logits_of(make_shallow_student(teacher, 2, "")).equal(logits_of(teacher)));
}

TEST(ShallowStudent, HasFewerLayersInEncoderAndDecoder) {
  const Model teacher = random_teacher(tiny_bart(3));
  const Model student = make_shallow_student(teacher, 1, "0/1");
  EXPECT_EQ(student.config->at("encoder_layers"), 1);
  EXPECT_EQ(student.config->at("decoder_layers"), 1);
  EXPECT_TRUE(
      same(weight_at(student, "encoder.layers.0.fc1"), weight_at(teacher, "encoder.layers.0.fc1")));
  EXPECT_TRUE(same(weight_at(student, "decoder.layers.0.cross_q_proj"),
                   weight_at(teacher, "decoder.layers.1.cross_q_proj")));
}

TEST(ShallowStudent, WritesACountThatTheConfigLeftOut) {
  Json config = tiny_bert(12);
  config.erase("num_hidden_layers");  // twelve is the default
  const Model student = make_shallow_student(random_teacher(config), 2, "3,7");
  EXPECT_EQ(student.graph.stacks[0].layers, 2);
  EXPECT_EQ(student.config->at("num_hidden_layers"), 2);
}

TEST(ShallowStudent, KeepsTheKindsOfItsLayers) {
  const Json config = {{"model_type", "gpt_neo"},
                       {"architectures", {"GPTNeoForCausalLM"}},
                       {"vocab_size", kTinyWords},
                       {"hidden_size", 8},
                       {"num_layers", 4},
                       {"num_heads", 2},
                       {"window_size", 2},
                       {"max_position_embeddings", 16},
                       {"attention_types", Json::parse(R"([[["global", "local"], 2]])")}};
  const Model student = make_shallow_student(random_teacher(config), 2, "1,3");
  EXPECT_EQ(student.config->at("attention_types"), Json::parse(R"([[["local", "local"], 1]])"));
}

TEST(ShallowStudent, RefusesWhatDoesNotFit) {
  const Model teacher = random_teacher(tiny_bert(2));
  EXPECT_NE(refusal([&] { make_shallow_student(teacher, 3, ""); }).find("the teacher has 2"),
            std::string::npos);
  EXPECT_NE(refusal([&] { make_shallow_student(teacher, 0, ""); }), "");
  EXPECT_NE(refusal([&] { make_shallow_student(teacher, 1, "2"); }), "");

  Json albert = tiny_bert(2);
  albert["model_type"] = "albert";
  albert["architectures"] = {"AlbertForSequenceClassification"};
  albert["embedding_size"] = 8;
  EXPECT_NE(refusal([&] { make_shallow_student(random_teacher(albert), 1, ""); }).find("share"),
            std::string::npos);
}

}  // namespace
}  // namespace quell::train
