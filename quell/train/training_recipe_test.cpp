// The built-in recipes: each trains a tiny model of its kind, and what comes out is deployed.
#include "quell/train/training_recipe.h"

#include <gtest/gtest.h>

#include "quell/engine/lower.h"
#include "quell/graph/forms.h"
#include "quell/text/data/recipe_library.h"
#include "quell/train/deploy.h"
#include "quell/train/latent_clips.h"
#include "quell/train/tiny_training.h"
#include "tests/support/scratch_dir.h"

namespace quell::train {
namespace {
namespace fs = std::filesystem;

struct RecipeCase {
  const char* recipe;
  const char* family;
  TinyTask (*task)();
};

TinyTask gpt2_words() { return tiny_next_words(tiny_gpt2(2)); }
TinyTask llama_words() { return tiny_next_words(tiny_llama(1)); }

constexpr RecipeCase kCases[] = {
    {"fine_tune", "bert", tiny_classes},
    {"ternarybert", "bert", tiny_classes},
    {"ternarybert", "mlm", tiny_masked_words},
    {"kd_qat", "bert", tiny_classes},
    {"quantgpt", "gpt2", gpt2_words},
    {"quantgpt", "llama", llama_words},
    {"quantbart", "bart", tiny_seq2seq},
    {"tsld", "gpt2", gpt2_words},
    {"tsld", "llama", llama_words},
    {"bitdistiller", "llama", llama_words},
    {"quant_noise", "bert", tiny_classes},
    {"quant_noise", "gpt2", gpt2_words},
    {"ackd", "bert", tiny_classes},
    {"bitnet", "bert", tiny_classes},
    {"bitnet", "llama", llama_words},
};

class BuiltInRecipe : public ::testing::TestWithParam<RecipeCase> {
 protected:
  void SetUp() override { torch::set_num_threads(1); }
  testing::ScratchDir dir_;
};

TEST_P(BuiltInRecipe, TrainsAndDeploysAModelOfItsKind) {
  TrainingRecipe recipe = load_training_recipe(GetParam().recipe);
  recipe.steps = 2;  // the first of a warm-up changes nothing
  recipe.batch_size = 3;
  recipe.accumulate = 1;
  TinyRun run(recipe, GetParam().task());
  std::vector<torch::Tensor> before;
  for (const TorchParameter& p : run.student.parameters().trained())
    before.push_back(p.tensor.detach().clone());
  run.go(dir_ / "run", 100);

  std::size_t i = 0;
  for (const TorchParameter& p : run.student.parameters().trained()) {
    const bool has_gradient =
        p.tensor.grad().defined() && p.tensor.grad().abs().max().item<double>() > 0;
    EXPECT_EQ(has_gradient, !torch::equal(p.tensor, before[i])) << p.name;
    EXPECT_TRUE(has_gradient || p.name.find("bias") != std::string::npos) << p.name;
    ++i;
  }

  const TokenBatch batch = run.data.batch(0).tokens;
  const torch::NoGradGuard guard;
  const torch::Tensor trained = run.student.forward(batch).values.at("logits");
  deploy(run.student, run.quantizers, run.model);
  ASSERT_EQ(run.model.is_quantized(), recipe.quantizers.any());

  ExecContext ctx(1);
  ForwardOutputs outputs;
  const auto engine = recipe.quantizers.any() ? lower(run.model, ctx) : make_float_model(run.model);
  engine->forward(batch, outputs, ctx);
  const auto logits = outputs.values.at("logits").f32();
  ASSERT_EQ(static_cast<std::int64_t>(logits.size()), trained.numel());
  const float largest = trained.abs().max().item<float>();
  const torch::Tensor rows = trained.flatten(0, -2);
  const std::vector<std::int32_t>& mask =
      run.task.set.kind == TaskKind::kSeq2Seq ? batch.decoder_mask : batch.mask;
  for (std::int64_t r = 0; r < rows.size(0); ++r) {
    const bool is_padding =
        rows.size(0) == std::ssize(mask) && mask[static_cast<std::size_t>(r)] == 0;
    for (std::int64_t c = 0; !is_padding && c < rows.size(1); ++c)
      EXPECT_NEAR(logits[static_cast<std::size_t>(r * rows.size(1) + c)], rows[r][c].item<float>(),
                  1e-4 * (1 + largest))
          << r << " " << c;
  }
}

INSTANTIATE_TEST_SUITE_P(All, BuiltInRecipe, ::testing::ValuesIn(kCases), [](const auto& info) {
  return std::string(info.param.recipe) + "_" + info.param.family;
});

TEST(LatentClips, MakeOutputsBetterAndLeaveQueriesAndKeysAlone) {
  TrainingRecipe recipe = load_training_recipe("bitdistiller");
  TinyRun run(recipe, llama_words());
  const TokenBatch batch = run.data.batch(0).tokens;
  const TorchParameters& parameters = run.student.parameters();
  const auto entry_of = [&](const std::string& module) -> const StudentQuantizers::Entry& {
    for (const auto& entry : run.quantizers.entries())
      if (entry->tensor.find(module + ".weight") != std::string::npos) return *entry;
    throw std::runtime_error(module);
  };
  const torch::NoGradGuard guard;
  std::map<std::string, torch::Tensor> before;
  for (const char* module : {"q_proj", "k_proj", "v_proj", "down_proj"})
    before[module] = parameters.weight(entry_of(module).param).clone();

  // The first layer's v_proj reads what the norm of the embeddings gives.
  const Node& v_proj = run.model.graph.node(run.model.graph.users(entry_of("v_proj").param)[0]);
  const ValueId read = base_of(run.model.graph, v_proj.in[kLinearInput]);
  const torch::Tensor x = run.student.forward(batch, {.values = {read}}).taps.at(read);
  clip_latent_weights(run.student, run.quantizers, run.data, 512);

  for (const char* module : {"q_proj", "k_proj"})
    EXPECT_TRUE(torch::equal(parameters.weight(entry_of(module).param), before[module])) << module;
  for (const char* module : {"v_proj", "down_proj"}) {
    const torch::Tensor now = parameters.weight(entry_of(module).param);
    EXPECT_FALSE(torch::equal(now, before[module])) << module;
    EXPECT_TRUE(torch::all(now.abs() <= before[module].abs()).item<bool>()) << module;
  }

  const auto error_of = [&](const torch::Tensor& latent) {
    const torch::Tensor rounded = entry_of("v_proj").quantizer->quantize(latent);
    return x.matmul((rounded - before["v_proj"]).t()).square().mean().item<double>();
  };
  EXPECT_LT(error_of(parameters.weight(entry_of("v_proj").param)),
            0.9 * error_of(before["v_proj"]));
}

TEST(TrainingRecipes, EachIsTriedAbove) {
  for (const std::string& name : training_recipes().names())
    EXPECT_TRUE(std::any_of(std::begin(kCases), std::end(kCases), [&](const RecipeCase& c) {
      return name == c.recipe;
    })) << name;
}

TEST(TrainingRecipes, GoByNamesWithDashesToo) {
  EXPECT_EQ(training_recipes().read("kd-qat"), training_recipes().read("kd_qat"));
  EXPECT_EQ(load_training_recipe("quant-noise").name, "quant_noise");
  EXPECT_THROW(training_recipes().read("kd qat"), Error);
}

TEST(TrainingRecipes, AreReadAndRefusedByKey) {
  for (const std::string& name : training_recipes().names()) {
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
  EXPECT_NE(
      message("objective: [labels]\nquantizers: {head: {static_step: {}}}").find("embeddings"),
      std::string::npos);
}

TEST(TrainingRecipes, EqualTextsMeanEqualNumbers) {
  TrainingRecipe a = load_training_recipe("kd_qat");
  TrainingRecipe b = a;
  EXPECT_EQ(canonical_text(a), canonical_text(b));
  b.learning_rate *= 1 + 1e-9;
  EXPECT_NE(canonical_text(a), canonical_text(b));
}

TEST(TrainingRecipes, TakeSchemes) {
  TrainingRecipe ternary = load_training_recipe("ternarybert");
  EXPECT_NO_THROW(set_training_scheme(ternary, "W1.58A8 E2"));
  EXPECT_THROW(set_training_scheme(ternary, "W4A8"), Error);

  TrainingRecipe clipped = load_training_recipe("quantgpt");
  set_training_scheme(clipped, "W8A4 E4");
  EXPECT_EQ(clipped.quantizers.weights->integer("bits", 2, 8, 0), 8);
  EXPECT_EQ(clipped.quantizers.embeddings->integer("bits", 2, 8, 0), 4);
  EXPECT_EQ(clipped.quantizers.activations->integer("bits", 2, 8, 0), 4);
  EXPECT_EQ(clipped.quantizers.head->integer("bits", 2, 8, 0), 4);
}

}  // namespace
}  // namespace quell::train
