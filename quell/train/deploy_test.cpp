// What is deployed computes what was trained: in the simulated and the integer engine, and read
// back from a file; heads that are tied to a quantized table among it.
#include "quell/train/deploy.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "quell/engine/lower.h"
#include "quell/exporting/compressed_tensors.h"
#include "quell/io/json.h"
#include "quell/train/tiny_training.h"
#include "tests/support/scratch_dir.h"

namespace quell::train {
namespace {
namespace fs = std::filesystem;

std::string read_file(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

TrainingRecipe recipe_with(const std::string& quantizers) {
  return parse_training_recipe("name: test\nquantizers:\n" + quantizers + R"(
objective: [logits]
training: {learning_rate: 0.01, quantizer_learning_rate: 0.05, steps: 6, batch_size: 3, freeze_at: 0.6}
)",
                               "test");
}

constexpr const char* kTernary = R"(
  weights: {twn: {granularity: tensor}}
  embeddings: {twn: {granularity: row}}
  activations: {dynamic: {granularity: token}}
  attention: {static_step: {}}
  map: {static_step: {symmetric: false, source: observed}}
)";

std::vector<float> logits_of(const ForwardModel& model, const TokenBatch& batch) {
  ExecContext ctx(1);
  ForwardOutputs outputs;
  model.forward(batch, outputs, ctx);
  const auto values = outputs.values.at("logits").f32();
  return {values.begin(), values.end()};
}

std::vector<float> integer_logits(const Model& model, const TokenBatch& batch) {
  ExecContext ctx(1);
  return logits_of(*lower(model, ctx), batch);
}

/// Where padding has none.
std::vector<bool> rows_that_count(const TinyRun& run, const TokenBatch& batch, std::size_t rows) {
  const std::vector<std::int32_t>& mask =
      run.task.set.kind == TaskKind::kSeq2Seq ? batch.decoder_mask : batch.mask;
  if (rows != mask.size()) return std::vector<bool>(rows, true);
  return {mask.begin(), mask.end()};
}

double largest_distance(const std::vector<float>& a, const std::vector<float>& b,
                        const std::vector<bool>& row_counts) {
  const std::size_t columns = a.size() / row_counts.size();
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (row_counts[i / columns]) largest = std::max<double>(largest, std::abs(a[i] - b[i]));
  return largest;
}

class Deploy : public ::testing::Test {
 protected:
  void SetUp() override { torch::set_num_threads(1); }

  /// Trains, deploys, and compares all engines; the model as it is read back.
  Model check(TinyRun& run) {
    for (const char* name : {"run", "out", "again"}) fs::remove_all(dir_ / name);
    run.go(dir_ / "run", 100);
    const TokenBatch batch = run.data.batch(0).tokens;
    const torch::NoGradGuard guard;
    const torch::Tensor trained = run.student.forward(batch).values.at("logits").contiguous();
    const std::vector<float> want(trained.data_ptr<float>(),
                                  trained.data_ptr<float>() + trained.numel());

    deploy(run.student, run.quantizers, run.model);
    EXPECT_TRUE(run.model.is_quantized());
    const ExecContext ctx(1);
    const std::vector<float> simulated =
        logits_of(*make_simulated_model(run.model, true, ctx.isa), batch);
    EXPECT_EQ(simulated, integer_logits(run.model, batch));
    const std::vector<bool> counts =
        rows_that_count(run, batch, static_cast<std::size_t>(trained.size(0)));
    EXPECT_EQ(simulated.size(), want.size());
    EXPECT_LT(largest_distance(simulated, want, counts), 1e-4);

    export_compressed_tensors(run.model, dir_ / "out", false);
    Model read = load_model(Checkpoint::open(dir_ / "out"));
    EXPECT_EQ(integer_logits(read, batch), simulated);
    return read;
  }

  /// Of the head that is tied to the table, once it is read back.
  void check_head(const std::string& quantizers, TinyTask task, bool has_codes) {
    TinyRun run(recipe_with(quantizers), std::move(task));
    const Model read = check(run);
    for (const Model* model : {static_cast<const Model*>(&run.model), &read}) {
      const auto head = std::find_if(model->params.begin(), model->params.end(),
                                     [](const Param& p) { return p.tied_to != kNoParam; });
      ASSERT_NE(head, model->params.end());
      EXPECT_EQ(head->quantized.has_value(), has_codes);
      EXPECT_TRUE(model->param(head->tied_to).table_codes.has_value());
    }

    // Once more: what was read is written as it was.
    export_compressed_tensors(read, dir_ / "again", false);
    const Checkpoint first = Checkpoint::open(dir_ / "out");
    const Checkpoint second = Checkpoint::open(dir_ / "again");
    ASSERT_EQ(first.tensors().size(), second.tensors().size());
    for (const auto& [name, view] : first.tensors()) {
      const TensorView& other = second.tensors().at(name);
      ASSERT_EQ(view.num_bytes(), other.num_bytes()) << name;
      EXPECT_EQ(std::memcmp(view.raw(), other.raw(), view.num_bytes()), 0) << name;
    }
  }

  testing::ScratchDir dir_;
};

const std::string kCodedHead = std::string(kTernary) + "  head: {dynamic: {granularity: token}}\n";

TEST_F(Deploy, AClassifierComputesWhatWasTrained) {
  TinyRun run(recipe_with(kTernary), tiny_classes());
  check(run);

  // Without its codes the model gives something else: it is they that agree.
  const TokenBatch batch = run.data.batch(0).tokens;
  const std::vector<float> packed = integer_logits(run.model, batch);
  const std::vector<float> plain = logits_of(*make_float_model(run.model), batch);
  EXPECT_GT(largest_distance(packed, plain, std::vector<bool>(3, true)), 1e-2);
}

TEST_F(Deploy, HeadsMultiplyWithTheCodesOfTheirTable) {
  check_head(kCodedHead, tiny_next_words(tiny_gpt2(2)), true);
  check_head(kCodedHead, tiny_seq2seq(), true);
  check_head(kCodedHead, tiny_masked_words(), true);
}

TEST_F(Deploy, HeadsInFloatsMultiplyWithTheValuesOfTheirTable) {
  check_head(kTernary, tiny_next_words(tiny_gpt2(2)), false);
  check_head(kTernary, tiny_seq2seq(), false);
  check_head(kTernary, tiny_masked_words(), false);
}

/// Of one step for the whole table, and of codes that do not reach the largest in every row.
TEST_F(Deploy, TablesMayHaveMoreBitsAndZeroPoints) {
  const std::string others = R"(
  weights: {dynscale: {bits: 4}}
  activations: {dynamic: {granularity: token}}
  head: {static_step: {}}
)";
  for (const char* table :
       {"dynscale: {granularity: tensor, bits: 4}", "dynscale: {granularity: row, bits: 8}",
        "min_max: {granularity: row, bits: 4}", "quant_noise: {granularity: tensor}",
        "lsq: {granularity: row, bits: 3}"})
    check_head(others + "  embeddings: {" + table + "}\n", tiny_next_words(tiny_gpt2(1)), true);
}

TEST_F(Deploy, AFileThatTiesAHeadToNothingIsRefused) {
  TinyRun run(recipe_with(kCodedHead), tiny_next_words(tiny_gpt2(1)));
  check(run);
  const fs::path file = dir_ / "out/config.json";
  Json config = Json::parse(read_file(file));
  EXPECT_EQ(config["quell"]["version"], 3);
  EXPECT_EQ(config["quell"]["coded_heads"], Json({"lm_head"}));

  config["quell"]["coded_heads"] = {"transformer.h.0.mlp.c_fc"};
  std::ofstream(file) << config.dump();
  const std::string message = refusal([&] { load_model(Checkpoint::open(dir_ / "out")); });
  EXPECT_NE(message.find("transformer.h.0.mlp.c_fc"), std::string::npos) << message;
}

TEST_F(Deploy, RefusesWhatNoFileHolds) {
  const auto message = [](const std::string& quantizers) {
    const TinyRun run(recipe_with(quantizers), tiny_next_words(tiny_llama(1)));
    return refusal([&] { check_deployable(run.quantizers, run.student); });
  };
  const auto expect = [&](const std::string& quantizers, const std::string& tensor,
                          const std::string& why) {
    const std::string text = message(quantizers);
    EXPECT_NE(text.find(tensor), std::string::npos) << text;
    EXPECT_NE(text.find(why), std::string::npos) << text;
  };
  expect("  weights: {nf3: {group_size: 128}}", "q_proj.weight", "evenly spaced");
  expect("  weights: {ipq: {centroids: 4}}", "q_proj.weight", "centroids");
  expect("  weights: {quant_noise: {noise: zero}}", "q_proj.weight", "left out in training");
  expect("  activations: {dynamic: {granularity: tensor}}", "q_proj input", "granularity token");
  expect("  embeddings: {twn: {granularity: group, group_size: 32}}", "embed_tokens.weight",
         "one step a row");
  expect("  weights: {twn: {granularity: row}}", "q_proj.weight", "quantizer of activations");
  expect("  weights: {twn: {granularity: group, group_size: 4}}", "q_proj.weight", "multiple of 8");
  expect("  activations: {dynamic: {granularity: token}}", "weights in floats", "none at all");
}

}  // namespace
}  // namespace quell::train
