// Size accounting as the papers on training with few bits do it: three published models.
#include <gtest/gtest.h>

#include <fstream>

#include "quell/base/error.h"
#include "quell/job/scheme_sizes.h"
#include "quell/model/model.h"
#include "tests/support/support.h"

namespace quell {
namespace {

using quell::testing::expect_one_line_error;
using quell::testing::run_quell;
using quell::testing::ScratchDir;

constexpr const char* kBert =
    R"({"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 30522,
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 2})";
constexpr const char* kGpt2 =
    R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 50257,
        "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "n_ctx": 1024})";
constexpr const char* kBart =
    R"({"model_type": "bart", "architectures": ["BartForConditionalGeneration"],
        "vocab_size": 50265, "d_model": 768, "encoder_layers": 6, "decoder_layers": 6,
        "encoder_attention_heads": 12, "decoder_attention_heads": 12, "encoder_ffn_dim": 3072,
        "decoder_ffn_dim": 3072, "max_position_embeddings": 1024})";

SchemeSizes sizes_of(const char* config, const std::string& scheme) {
  const Architecture made = build_architecture(Settings(Json::parse(config)));
  return sizes_by_scheme(made.graph, parse_scheme(scheme));
}

/// As the papers print it.
std::string megabytes(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f", static_cast<double>(bytes) / (1 << 20));
  return text;
}

TEST(SchemeSizes, BertBaseCountsAStepForEachWord) {
  const SchemeSizes s = sizes_of(kBert, "W2A8");
  // Words, positions, types and their norm; twelve layers; the pooler.
  const std::uint64_t layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768;
  const std::uint64_t all = (30522 + 512 + 2 + 2) * 768 + 12 * layer + 768 * 768 + 768;
  EXPECT_EQ(s.float_model, 4 * all);
  EXPECT_EQ(megabytes(s.float_model), "417.64");
  EXPECT_EQ(megabytes(s.with_row_steps()), "28.07");
  EXPECT_EQ(megabytes(s.without_steps), "27.95");
  EXPECT_EQ(s.matrix_steps, 4U * (12 * 6 + 1 + 1));
  EXPECT_EQ(s.table_row_steps, 4U * (30522 - 1));
}

TEST(SchemeSizes, Gpt2CountsAStepForTheTable) {
  const std::pair<const char*, const char*> kRows[] = {
      {"W8A8", "121.27"}, {"W4A8", "62.37"}, {"W2A8", "32.92"}};
  for (const auto& [scheme, want] : kRows) {
    const SchemeSizes s = sizes_of(kGpt2, scheme);
    EXPECT_EQ(megabytes(s.float_model), "474.70");
    EXPECT_EQ(megabytes(s.without_steps), want) << scheme;
    EXPECT_EQ(megabytes(s.with_matrix_steps()), want) << scheme;
  }
  const SchemeSizes s = sizes_of(kGpt2, "W2A8");
  EXPECT_NEAR(static_cast<double>(s.float_model) / static_cast<double>(s.with_matrix_steps()), 14.4,
              0.05);
}

TEST(SchemeSizes, BartBaseIsCountedWithoutSteps) {
  const SchemeSizes s = sizes_of(kBart, "W2A8");
  EXPECT_EQ(megabytes(s.float_model), "531.85");
  EXPECT_EQ(megabytes(s.without_steps), "39.41");
  EXPECT_EQ(s.matrix_steps, 4U * (6 * 6 + 6 * 10 + 1));
  EXPECT_EQ(megabytes(s.with_row_steps()), "39.61");
}

TEST(SchemeSizes, FiveTritsLieInAByte) {
  const SchemeSizes two = sizes_of(kGpt2, "W2A8");
  const SchemeSizes ternary = sizes_of(kGpt2, "W1.58A8");
  const std::uint64_t layer = 12ULL * 768 * 768;
  const std::uint64_t table = 50257ULL * 768;
  const std::uint64_t two_bits = (table + 12 * layer) / 4;
  // Each of the matrices ends with a byte of its own: q, k, v, o of a layer take 768^2 / 5 bytes,
  // rounded up, and so on.
  const std::uint64_t square = (768 * 768 + 4) / 5;
  const std::uint64_t wide = (768 * 3072 + 4) / 5;
  const std::uint64_t trits = (table + 4) / 5 + 12 * (4 * square + 2 * wide);
  EXPECT_EQ(two.without_steps - ternary.without_steps, two_bits - trits);
}

TEST(SchemeSizes, EmbeddingsMayHaveOtherBits) {
  const std::uint64_t table = 50257ULL * 768;
  const SchemeSizes two = sizes_of(kGpt2, "W2A8");
  EXPECT_EQ(sizes_of(kGpt2, "W2A8 E2").without_steps, two.without_steps);
  EXPECT_EQ(sizes_of(kGpt2, "W2A8 E8").without_steps, two.without_steps + table * 6 / 8);
  const SchemeSizes floats = sizes_of(kGpt2, "W2A8E32");
  EXPECT_EQ(floats.without_steps, two.without_steps + table * 30 / 8);
  EXPECT_EQ(floats.table_row_steps, 0U);
  EXPECT_EQ(sizes_of(kGpt2, "W32A32").with_row_steps(), two.float_model);
}

TEST(SchemeSizes, InspectNeedsConfigAlone) {
  const ScratchDir dir;
  std::ofstream(dir / "config.json") << kGpt2;
  const std::string model = dir.path().string();

  const auto text = run_quell("inspect " + model + " --scheme W2A8");
  EXPECT_EQ(text.exit_code, 0) << text.err;
  for (const char* words : {"474.70", "32.92", "14.4x", "33.11", "14.3x"})
    EXPECT_NE(text.out.find(words), std::string::npos) << words << "\n" << text.out;

  const auto ternary = run_quell("inspect " + model + " --scheme W1.58A8");
  EXPECT_NE(ternary.out.find("five a byte"), std::string::npos) << ternary.out;

  const std::string unknown = "inspect " + model + " --scheme W1A8";
  expect_one_line_error(run_quell(unknown), 2, "expected W<bits>A<bits>", unknown);
  const std::string weights = "inspect " + model;
  expect_one_line_error(run_quell(weights), 1, "model.safetensors", weights);
}

TEST(SchemeSizes, InspectAddsThemToAWholeReport) {
  const auto r = run_quell("inspect " + (quell::testing::kReviews / "model").string() +
                           " --scheme W4A8 --json -");
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const Json report = Json::parse(r.out);
  EXPECT_TRUE(report.contains("linears"));
  const Json& sizes = report.at("scheme_sizes");
  EXPECT_EQ(sizes.at("float").at("bytes").get<std::int64_t>(),
            4 * report.at("parameters").get<std::int64_t>());
}

}  // namespace
}  // namespace quell
