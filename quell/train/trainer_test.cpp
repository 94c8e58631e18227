#include "quell/train/trainer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "quell/base/error.h"
#include "quell/engine/lower.h"
#include "quell/exporting/compressed_tensors.h"
#include "quell/io/json.h"
#include "quell/train/deploy.h"
#include "quell/train/small_models.h"
#include "quell/train/tiny_configs.h"

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

TrainingSet small_set() {
  TrainingSet set;
  set.kind = TaskKind::kClasses;
  set.source = "rows";
  for (std::int32_t i = 0; i < 7; ++i) {
    TokenSequence sequence;
    for (std::int32_t t = 0; t < 3 + i % 3; ++t) sequence.ids.push_back((5 * i + t) % kTinyWords);
    set.sequences.push_back(sequence);
    set.labels.push_back(i % 3);
  }
  return set;
}

class KilledError : public std::runtime_error {
 public:
  KilledError() : std::runtime_error("killed") {}
};

/// A student and a teacher of random weights, and what trains the one.
struct TinyRun {
  explicit TinyRun(const std::string& yaml, bool cached = false, const fs::path& cache_dir = {})
      : recipe(parse_training_recipe(yaml, "test")),
        model(random_model(build_architecture(Settings(tiny_bert(2))), 3)),
        teacher_model(random_model(build_architecture(Settings(tiny_bert(2))), 3)),
        student(model),
        teacher(teacher_model),
        quantizers(recipe.quantizers, model, student),
        layers(make_layer_map(model.graph, teacher_model.graph, "")),
        objective(recipe.objective, {student, &teacher, layers, set.kind}),
        data(set, {.batch_size = recipe.batch_size, .seed = 5, .fixed_batches = cached}) {
    student.set_dropout(dropout_points(model.graph, recipe.dropout));
    if (cached) cache = std::make_unique<TeacherCache>(cache_dir);
  }

  TrainingResult go(const fs::path& dir, std::int64_t checkpoint_every, std::int64_t killed_at = -1,
                    const RunKey& key = {{"recipe", "a"}}) {
    RunDirectory run(dir, key);
    Trainer trainer(recipe, {.seed = 5, .checkpoint_every = checkpoint_every, .log_every = 1},
                    {student, quantizers, objective, data, &teacher, cache.get()});
    TrainerHooks hooks;
    hooks.evaluate = [this]() -> Evaluation {
      const double sum =
          student.forward(data.batch(0).tokens).values.at("logits").sum().item<double>();
      return {{{"sum", sum}}, sum};
    };
    hooks.progress = [&](std::int64_t step, std::int64_t, double, double) {
      if (step == killed_at) throw KilledError();
    };
    return trainer.run(run, hooks);
  }

  TrainingSet set = small_set();
  TrainingRecipe recipe;
  Model model, teacher_model;
  TorchModel student, teacher;
  StudentQuantizers quantizers;
  LayerMap layers;
  Objective objective;
  TrainingData data;
  std::unique_ptr<TeacherCache> cache;
};

class TrainerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    torch::set_num_threads(1);
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    dir_ = fs::temp_directory_path() / (std::string("quell_trainer_") + info->name());
    fs::remove_all(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }
  fs::path dir_;
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
  run.go(dir_, 1000);
  std::ifstream in(dir_ / "metrics.jsonl");
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

TEST_F(TrainerTest, WhatIsDeployedComputesWhatWasTrained) {
  TinyRun run(kRecipe);
  run.go(dir_, 100);
  const TokenBatch batch = run.data.batch(0).tokens;
  const torch::NoGradGuard guard;
  const torch::Tensor trained = run.student.forward(batch).values.at("logits");

  deploy(run.student, run.quantizers, run.model);
  ASSERT_TRUE(run.model.is_quantized());
  ExecContext ctx(1);
  ForwardOutputs exact, integer;
  make_simulated_model(run.model, true, ctx.isa)->forward(batch, exact, ctx);
  lower(run.model, ctx)->forward(batch, integer, ctx);
  const auto simulated = exact.values.at("logits").f32();
  const auto packed = integer.values.at("logits").f32();
  ASSERT_EQ(static_cast<std::int64_t>(simulated.size()), trained.numel());
  for (std::size_t i = 0; i < simulated.size(); ++i) {
    EXPECT_EQ(simulated[i], packed[i]) << i;
    EXPECT_NEAR(simulated[i], trained.flatten()[static_cast<std::int64_t>(i)].item<float>(), 1e-4)
        << i;
  }

  // Without its codes the model gives something else: it is they that agree.
  ForwardOutputs plain;
  make_float_model(run.model)->forward(batch, plain, ctx);
  double distance = 0;
  for (std::size_t i = 0; i < simulated.size(); ++i)
    distance =
        std::max<double>(distance, std::abs(simulated[i] - plain.values.at("logits").f32()[i]));
  EXPECT_GT(distance, 1e-2);
}

TEST_F(TrainerTest, WhatIsDeployedIsReadBackFromAFile) {
  TinyRun run(kRecipe);
  run.go(dir_ / "run", 100);
  run.model.config = tiny_bert(2);
  deploy(run.student, run.quantizers, run.model);
  export_compressed_tensors(run.model, dir_ / "out", false);
  const Model read = load_model(Checkpoint::open(dir_ / "out"));

  const TokenBatch batch = run.data.batch(0).tokens;
  ExecContext ctx(1);
  ForwardOutputs here, there;
  lower(run.model, ctx)->forward(batch, here, ctx);
  lower(read, ctx)->forward(batch, there, ctx);
  const auto want = here.values.at("logits").f32();
  const auto got = there.values.at("logits").f32();
  ASSERT_EQ(want.size(), got.size());
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_EQ(want[i], got[i]) << i;
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
  EXPECT_THROW(first.go(dir_, 2, 5), KilledError);
  TinyRun second(kRecipe);
  const std::string message = refusal([&] { second.go(dir_, 2, -1, {{"recipe", "b"}}); });
  EXPECT_NE(message.find("another recipe"), std::string::npos) << message;
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
  const std::string message = refusal([&] { run.go(dir_, 1); });
  EXPECT_NE(message.find("step 0"), std::string::npos) << message;
  EXPECT_NE(message.find("rows"), std::string::npos) << message;
}

TEST(TrainingRecipes, AreReadAndRefusedByKey) {
  for (const std::string& name : training_recipe_names()) {
    const TrainingRecipe recipe = load_training_recipe(name);
    EXPECT_EQ(recipe.name, name);
    for (const TermChoice& term : recipe.objective) term_factory(term.method.name());
  }
  const auto message = [](const std::string& yaml) {
    return refusal([&] { parse_training_recipe(yaml, "r.yaml"); });
  };
  EXPECT_NE(message("name: x").find("objective"), std::string::npos);
  EXPECT_NE(message("objective: [labels]\ntraining: {lerning_rate: 1}").find("lerning_rate"),
            std::string::npos);
  EXPECT_NE(message("objective: [labels]\ntraining: {epochs: 1, steps: 2}").find("steps"),
            std::string::npos);

  TrainingRecipe ternary = load_training_recipe("ternarybert");
  EXPECT_NO_THROW(set_training_scheme(ternary, "W1.58A8 E2"));
  EXPECT_THROW(set_training_scheme(ternary, "W4A8"), Error);
}

TEST(TrainingData, EveryRowComesOnceAnEpochWhateverTheOrder) {
  const TrainingSet set = small_set();
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
