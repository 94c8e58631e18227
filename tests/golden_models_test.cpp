// Float models against outputs recorded with transformers: logits and every hidden state, padded
// left and right.
#include <gtest/gtest.h>

#include <fstream>

#include "quell/base/error.h"
#include "quell/engine/generate.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "quell/job/verify_job.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

void expect_equal(const fs::path& model, const fs::path& reference) {
  ExecContext ctx(2);
  const VerifyResult result = run_verify_job({model, reference, "float", 1e-4}, ctx);
  EXPECT_FALSE(result.rows.empty());
  for (const VerifyRow& row : result.rows) {
    EXPECT_LE(row.worst_ratio, 1) << row.tensor << " differs by " << row.max_difference;
    EXPECT_GT(row.compared, 0) << row.tensor;
  }
}

/// A directory like `model` with another config or weights file in place of the usual one.
void link_variant(const fs::path& model, const fs::path& variant, const std::string& config,
                  const std::string& weights) {
  for (const auto& entry : fs::directory_iterator(model)) {
    const std::string name = entry.path().filename().string();
    if (name == "config.json" || (name == "model.safetensors" && weights != name)) continue;
    fs::create_symlink(fs::absolute(entry.path()), variant / name);
  }
  fs::create_symlink(fs::absolute(model / config), variant / "config.json");
  if (weights != "model.safetensors")
    fs::create_symlink(fs::absolute(model / weights), variant / "model.safetensors");
}

class GoldenModel : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenModel, EqualsReference) {
  QUELL_NEED_DATA(model, "golden/models/" + GetParam());
  expect_equal(model, model / "reference.safetensors");
}

TEST_P(GoldenModel, OlderConfigAndTensorNames) {
  QUELL_NEED_DATA(model, "golden/models/" + GetParam());
  if (!fs::exists(model / "config.v4.json"))
    GTEST_SKIP() << model << " has no older config (config.v4.json)";
  const quell::testing::ScratchDir v4;
  link_variant(model, v4.path(), "config.v4.json", "model.safetensors");
  expect_equal(v4.path(), model / "reference.safetensors");
  if (!fs::exists(model / "model.old-names.safetensors")) return;
  const quell::testing::ScratchDir old;
  link_variant(model, old.path(), "config.json", "model.old-names.safetensors");
  expect_equal(old.path(), model / "reference.safetensors");
}

TEST_P(GoldenModel, GreedyGenerationGivesTheSameTokens) {
  QUELL_NEED_DATA(dir, "golden/models/" + GetParam());
  const SafetensorsFile file(dir / "reference.safetensors");
  if (!file.has("generate.input_ids")) GTEST_SKIP() << "does not generate";
  ExecContext ctx(2);
  const Model model = load_model(Checkpoint::open(dir));
  const Shape shape = file.at("generate.input_ids").shape(),
              out_shape = file.at("generate.output_ids").shape();
  TokenBatch prompt;
  prompt.batch = shape[0];
  prompt.length = shape[1];
  prompt.ids = to_i32(file.at("generate.input_ids"), "input_ids");
  prompt.mask = to_i32(file.at("generate.attention_mask"), "attention_mask");
  prompt.type_ids.assign(prompt.ids.size(), 0);
  const std::vector<std::int32_t> expected = to_i32(file.at("generate.output_ids"), "output_ids");
  const auto got =
      generate(*make_float_model(model), prompt, {.max_new_tokens = 16, .stop_at_eos = false}, ctx);
  for (std::int64_t b = 0; b < prompt.batch; ++b) {
    const auto end = expected.begin() + (b + 1) * out_shape[1];
    EXPECT_EQ(got[static_cast<std::size_t>(b)], std::vector<std::int32_t>(end - 16, end))
        << "sequence " << b;
  }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenModel,
                         ::testing::ValuesIn(quell::testing::case_folders("golden/models")),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

class RealModel : public ::testing::TestWithParam<const char*> {};
TEST_P(RealModel, EqualsReference) {
  QUELL_NEED_DATA(model, std::string("models/") + GetParam());
  expect_equal(model, model / "reference.safetensors");
}
INSTANTIATE_TEST_SUITE_P(All, RealModel,
                         ::testing::Values("minilm-l6", "stories260K", "babyllama-tok105",
                                           "rxnmapper-albert"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(GoldenModelRefusal, OtherFamiliesAreRefusedByName) {
  QUELL_NEED_DATA(model, "golden/models/bert-base");
  const quell::testing::ScratchDir dir;
  link_variant(model, dir.path(), "config.json", "model.safetensors");
  Json config = read_json_file(model / "config.json");
  config["model_type"] = "mamba";
  fs::remove(dir / "config.json");
  std::ofstream(dir / "config.json") << config;
  try {
    load_model(Checkpoint::open(dir.path()));
    FAIL() << "mamba was loaded";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(e.what()).find("mamba"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace quell
