#include "quell/exporting/side_files.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "quell/io/mapped_file.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

class SideFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    base_ = fs::temp_directory_path() / ("quell-side-files-" + std::to_string(::getpid()));
    fs::remove_all(base_);
    fs::create_directories(from());
    fs::create_directories(to());
  }
  void TearDown() override { fs::remove_all(base_); }

  fs::path from() const { return base_ / "from"; }
  fs::path to() const { return base_ / "to"; }
  void put(const std::string& name, const std::string& text = "x") {
    fs::create_directories((from() / name).parent_path());
    write_text_file(from() / name, text);
  }
  bool arrived(const std::string& name) const { return fs::exists(to() / name); }
  bool mentions(const std::vector<std::string>& left, const std::string& name) const {
    return std::any_of(left.begin(), left.end(),
                       [&](const std::string& l) { return l.find(name) != std::string::npos; });
  }

 private:
  fs::path base_;
};

TEST_F(SideFiles, WhatTokenizersTemplatesAndReadersNeedTravels) {
  const char* names[] = {"tokenizer.json",
                         "vocab.txt",
                         "merges.txt",
                         "vocab.bpe",
                         "cl.tiktoken",
                         "tekken.json",
                         "spiece.model",
                         "tokenizer.model.v3",
                         "added_tokens.json",
                         "special_tokens_map.json",
                         "generation_config.json",
                         "chat_template.jinja",
                         "chat_template.json",
                         "preprocessor_config.json",
                         "README.md",
                         "LICENSE",
                         "NOTICE.txt",
                         "additional_chat_templates/tool.jinja"};
  for (const char* name : names) put(name);
  for (const char* json : {"preprocessor_config.json"}) put(json, "{}");
  const std::vector<std::string> left = copy_side_files(from(), to());
  for (const char* name : names) EXPECT_TRUE(arrived(name)) << name;
  EXPECT_TRUE(left.empty()) << left.front();
}

TEST_F(SideFiles, OldWeightsAndUnrelatedFoldersStay) {
  const char* names[] = {"config.json",
                         "model.safetensors",
                         "other.safetensors",
                         "model.safetensors.index.json",
                         "pytorch_model.bin",
                         "tf_model.h5",
                         "m.gguf",
                         "training_args.bin",
                         "trainer_state.json",
                         ".gitattributes",
                         ".git/config",
                         "checkpoint-500/config.json",
                         "checkpoint-500/tokenizer.json",
                         "onnx/config.json",
                         "openvino/config.json",
                         "runs/events",
                         "original/params.json",
                         "2_Dense/config.json"};
  for (const char* name : names) put(name, "{}");
  const std::vector<std::string> left = copy_side_files(from(), to());
  EXPECT_TRUE(fs::is_empty(to()));
  EXPECT_TRUE(mentions(left, "2_Dense/"));  // no modules.json names it
  EXPECT_EQ(left.size(), 1U);
}

/// Of a classifier that was trained from a sentence model: they would make it one again.
TEST_F(SideFiles, OfSentenceTransformersStayWhereNothingReadsThem) {
  put("modules.json",
      R"([{"name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
          {"name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}])");
  for (const char* name : {"1_Pooling/config.json", "sentence_bert_config.json",
                           "config_sentence_transformers.json", "tokenizer.json"})
    put(name, "{}");
  const std::vector<std::string> left = copy_side_files(from(), to(), SentenceModules::kStay);
  EXPECT_TRUE(arrived("tokenizer.json"));
  EXPECT_FALSE(arrived("1_Pooling/config.json"));
  EXPECT_FALSE(arrived("modules.json"));
  EXPECT_FALSE(arrived("sentence_bert_config.json"));
  EXPECT_TRUE(mentions(left, "modules.json"));
}

TEST_F(SideFiles, FoldersOfModulesTravelWholeWithoutPickles) {
  put("modules.json",
      R"([{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
                          {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
                          {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
                          {"idx": 3, "path": "3_Dense", "type": "sentence_transformers.models.Dense"},
                          {"idx": 4, "path": "../elsewhere", "type": "x.Y"}, {"idx": 5, "path": "/etc", "type": "x.Y"}])");
  put("1_Pooling/config.json");
  put("2_Dense/config.json");
  put("2_Dense/model.safetensors");
  put("2_Dense/pytorch_model.bin");
  put("2_Dense/more/vocab.txt");
  put("3_Dense/pytorch_model.bin");
  const std::vector<std::string> left = copy_side_files(from(), to());
  for (const char* name : {"modules.json", "1_Pooling/config.json", "2_Dense/config.json",
                           "2_Dense/model.safetensors", "2_Dense/more/vocab.txt"})
    EXPECT_TRUE(arrived(name)) << name;
  EXPECT_FALSE(arrived("2_Dense/pytorch_model.bin") || arrived("3_Dense/pytorch_model.bin"));
  EXPECT_TRUE(mentions(left, "3_Dense/pytorch_model.bin") && mentions(left, "elsewhere") &&
              mentions(left, "/etc"));
  EXPECT_FALSE(mentions(left, "2_Dense"));  // the same weights are there without a pickle
}

TEST_F(SideFiles, PoolingAloneTravels) {
  put("1_Pooling/config.json", "{}");
  EXPECT_TRUE(copy_side_files(from(), to()).empty());
  EXPECT_TRUE(arrived("1_Pooling/config.json"));
}

TEST_F(SideFiles, CodeTravelsWhereAnAutoMapNamesIt) {
  put("config.json",
      R"({"auto_map": {"AutoModel": "modeling_x.Model", "AutoConfig": "owner/elsewhere--configuration_y.Config"}})");
  put("tokenizer_config.json", R"({"auto_map": {"AutoTokenizer": ["tokenization_x.Slow", null]}})");
  put("modeling_x.py",
      "import torch\nfrom .configuration_x import Config\nfrom . import (helper)\n");
  put("configuration_x.py");
  put("helper.py");
  put("tokenization_x.py");
  put("configuration_y.py");
  put("train.py");
  const std::vector<std::string> left = copy_side_files(from(), to());
  for (const char* name : {"modeling_x.py", "configuration_x.py", "helper.py", "tokenization_x.py"})
    EXPECT_TRUE(arrived(name)) << name;
  EXPECT_FALSE(arrived("train.py") || arrived("configuration_y.py"));
  EXPECT_TRUE(mentions(left, "train.py") && mentions(left, "configuration_y.py"));
}

TEST_F(SideFiles, LinksToFilesAreFollowedThoseToOtherDirectoriesAreNot) {
  const fs::path outside = from().parent_path() / "outside";
  fs::create_directories(outside / "folder");
  write_text_file(outside / "blob", "vocabulary");
  write_text_file(outside / "folder" / "secret.json", "{}");
  fs::create_symlink(outside / "blob", from() / "vocab.txt");
  fs::create_directory_symlink(outside / "folder", from() / "1_Pooling");
  fs::create_directory_symlink(from(), from() / "2_Loop");
  fs::create_symlink(from() / "nothing", from() / "merges.txt");
  put("modules.json", R"([{"path": "1_Pooling", "type": "a.B"}])");
  const std::vector<std::string> left = copy_side_files(from(), to());
  EXPECT_EQ(read_text_file(to() / "vocab.txt"), "vocabulary");
  EXPECT_FALSE(fs::is_symlink(to() / "vocab.txt"));
  EXPECT_FALSE(arrived("1_Pooling") || arrived("merges.txt") || arrived("2_Loop"));
  EXPECT_TRUE(mentions(left, "1_Pooling/ (a link out") &&
              mentions(left, "merges.txt (no regular file)"));
}

}  // namespace
}  // namespace quell
