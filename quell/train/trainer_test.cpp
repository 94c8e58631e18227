#include "quell/train/trainer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/train/tiny_training.h"
#include "tests/support/scratch_dir.h"

namespace quell::train {
namespace {
namespace fs = std::filesystem;

constexpr const char* kRecipe = R"(
name: test
quantizers:
  weights: {twn: {granularity: tensor}}
  embeddings: {twn: {granularity: row}}
  activations: {dynamic: {granularity: token}}
  attention: {static_step: {}}
  map: {static_step: {symmetric: false, source: observed}}
objective:
  - logits
  - hidden_states
  - attention_maps: {weight: 0.5}
training: {learning_rate: 0.01, quantizer_learning_rate: 0.05, steps: 9, batch_size: 2, dropout: 0.1, freeze_at: 0.6, eval_every: 3}
)";

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

class TrainerTest : public ::testing::Test {
 protected:
  void SetUp() override { torch::set_num_threads(1); }
  testing::ScratchDir dir_;
};

TEST_F(TrainerTest, AKilledRunEndsWithTheSameBytes) {
  TinyRun whole(kRecipe);
  const TrainingResult result = whole.go(dir_ / "whole", 100);
  EXPECT_EQ(result.steps, 9);
  EXPECT_GT(result.best_step, 0);
  const std::string checkpoint = bytes_of(dir_ / "whole/checkpoint.safetensors");
  const std::string metrics = bytes_of(dir_ / "whole/metrics.jsonl");
  ASSERT_FALSE(checkpoint.empty());

  for (const std::int64_t every : {1, 2, 4}) {
    for (std::int64_t killed_at = 1; killed_at <= 9; ++killed_at) {
      const fs::path dir = dir_ / str(every, "-", killed_at);
      TinyRun first(kRecipe);
      EXPECT_THROW(first.go(dir, every, killed_at), KilledError);
      TinyRun second(kRecipe);
      const TrainingResult again = second.go(dir, every);
      EXPECT_EQ(again.best_step, result.best_step);
      EXPECT_EQ(bytes_of(dir / "checkpoint.safetensors"), checkpoint) << every << " " << killed_at;
      EXPECT_EQ(bytes_of(dir / "metrics.jsonl"), metrics) << every << " " << killed_at;
    }
  }
}

TEST_F(TrainerTest, TheStudentLearnsWhatTheTeacherGives) {
  TinyRun run(R"(
name: test
objective: [logits]
training: {learning_rate: 0.02, steps: 120, batch_size: 4, clip_gradients: none}
)");
  for (const TorchParameter& p : run.student.parameters().trained()) {
    const torch::NoGradGuard guard;
    torch::Tensor values = p.tensor;
    values.add_(torch::ones_like(values) * 0.2);
  }
  run.go(dir_ / "run", 1000);
  std::ifstream in(dir_ / "run/metrics.jsonl");
  std::string line;
  double first = 0, last = 0;
  while (std::getline(in, line)) {
    const Json json = Json::parse(line);
    if (!json.contains("loss")) continue;
    last = json["loss"];
    if (json["step"] == 1) first = last;
  }
  EXPECT_LT(last, first);
}

TEST_F(TrainerTest, WhatTheTeacherGaveIsKeptAndChangesNothing) {
  TinyRun plain(kRecipe, true, dir_ / "unused");
  plain.cache.reset();
  plain.go(dir_ / "a", 100);
  TinyRun keeping(kRecipe, true, dir_ / "cache");
  keeping.go(dir_ / "b", 100);
  EXPECT_TRUE(fs::exists(dir_ / "cache/0.safetensors"));
  std::ofstream(dir_ / "cache/1.safetensors") << "damaged";
  TinyRun again(kRecipe, true, dir_ / "cache");
  again.go(dir_ / "c", 100);
  const std::string expected = bytes_of(dir_ / "a/checkpoint.safetensors");
  EXPECT_EQ(bytes_of(dir_ / "b/checkpoint.safetensors"), expected);
  EXPECT_EQ(bytes_of(dir_ / "c/checkpoint.safetensors"), expected);
}

TEST_F(TrainerTest, StaticStepsLearnUntilTheyAreFrozenHoweverManyBatchesAStepHas) {
  const auto steps_after = [&](const std::string& freeze_at, const std::string& dir) {
    TinyRun run(R"(
name: test
quantizers: {activations: {static_step: {}}}
objective: [logits, hidden_states]
training: {learning_rate: 0.001, steps: 4, batch_size: 1, accumulate: 3, freeze_at: )" +
                freeze_at + "}\n");
    std::vector<double> steps;
    RunDirectory directory(dir_ / dir, {});
    Trainer trainer(run.recipe, {.seed = 5},
                    {run.student, run.quantizers, run.objective, run.data, &run.teacher});
    TrainerHooks hooks;
    hooks.progress = [&](std::int64_t, std::int64_t, double, double) {
      steps.push_back(run.quantizers.parameters().front().value.item<double>());
    };
    trainer.run(directory, hooks);
    return steps;
  };

  const std::vector<double> always = steps_after("1", "always");
  const std::vector<double> half = steps_after("0.5", "half");
  EXPECT_EQ(half[0], always[0]);
  EXPECT_EQ(half[1], always[1]);
  EXPECT_NE(always[2], always[1]);
  EXPECT_EQ(half[2], half[1]);
  EXPECT_EQ(half[3], half[1]);
}

TEST_F(TrainerTest, ARunOfOtherSettingsIsRefused) {
  TinyRun first(kRecipe);
  EXPECT_THROW(first.go(dir_ / "run", 2, 5), KilledError);
  TinyRun second(kRecipe);
  const std::string message = refusal([&] { second.go(dir_ / "run", 2, -1, {{"recipe", "b"}}); });
  EXPECT_NE(message.find("another value of \"recipe\""), std::string::npos) << message;
}

TEST_F(TrainerTest, ALossThatIsNotFiniteNamesStepAndRows) {
  TinyRun run(R"(
name: test
objective: [logits]
training: {steps: 3, batch_size: 2}
)");
  {
    const torch::NoGradGuard guard;
    torch::Tensor values = run.student.parameters().trained().front().tensor;
    values.fill_(NAN);
  }
  const std::string message = refusal([&] { run.go(dir_ / "run", 1); });
  EXPECT_NE(message.find("step 0"), std::string::npos) << message;
  EXPECT_NE(message.find("rows"), std::string::npos) << message;
}

/// Behind the last update no loss would tell. Words that no row holds have no gradient: 0 / 0.
TEST_F(TrainerTest, ParametersThatAreNotFiniteAreNamedAndNotKept) {
  TinyRun run(R"(
name: test
objective: [logits]
training: {epsilon: 0, warmup: 0, decay: constant, steps: 1, batch_size: 2}
)");
  const std::string message = refusal([&] { run.go(dir_ / "run", 1); });
  EXPECT_NE(message.find("not finite"), std::string::npos) << message;
  EXPECT_FALSE(fs::exists(dir_ / "run/checkpoint.safetensors"));
}

TEST(TrainingData, EveryRowComesOnceAnEpochWhateverTheOrder) {
  const TrainingSet set = tiny_classes().set;
  for (const bool fixed : {false, true}) {
    const TrainingData data(set, {.batch_size = 2, .seed = 1, .fixed_batches = fixed});
    ASSERT_EQ(data.batches_per_epoch(), 4);
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
      std::vector<std::size_t> seen;
      for (std::int64_t b = 0; b < 4; ++b)
        for (const std::size_t row : data.rows(4 * epoch + b).rows) seen.push_back(row);
      std::sort(seen.begin(), seen.end());
      EXPECT_EQ(seen, (std::vector<std::size_t>{0, 1, 2, 3, 4, 5, 6})) << fixed << epoch;
    }
  }
}

}  // namespace
}  // namespace quell::train
