#include "quell/compress/recipe.h"

#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/compress/pass.h"
#include "quell/text/data/recipe_library.h"

namespace quell {
namespace {

void expect_refused(const std::string& yaml, const std::string& words) {
  try {
    const Recipe r = parse_recipe(yaml, "r.yaml");
    for (const PassParams& p : r.passes) make_pass(p, r);
    ADD_FAILURE() << "accepted: " << yaml;
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
  }
}

TEST(Recipe, BuiltinsParseAndTheirPassesExist) {
  EXPECT_GE(quantization_recipes().names().size(), 5U);
  for (const std::string& name : quantization_recipes().names()) {
    const Recipe r = load_recipe(name);
    EXPECT_EQ(r.name, name);
    for (const PassParams& p : r.passes) EXPECT_NE(make_pass(p, r), nullptr);
  }
}

/// Of those that train models, too: the message says which commands take them.
TEST(Recipe, LibrariesKnowEachOthersNames) {
  EXPECT_EQ(quantization_recipes().find("best-fast"), quantization_recipes().find("best_fast"));
  EXPECT_EQ(quantization_recipes().find("kd_qat"), nullptr);
  const auto refusal = [](const RecipeLibrary& library, const std::string& name) -> std::string {
    try {
      return "accepted: " + library.read(name);
    } catch (const Error& e) {
      return e.what();
    }
  };
  EXPECT_NE(refusal(quantization_recipes(), "kd-qat").find("is for quell train and quell distill"),
            std::string::npos);
  EXPECT_NE(refusal(training_recipes(), "best").find("is for quell quantize"), std::string::npos);
  EXPECT_NE(refusal(training_recipes(), "nonsense").find("built-in are"), std::string::npos);
}

TEST(Recipe, ReadsEveryKey) {
  const Recipe r = parse_recipe(
      "name: n\nscheme: W4A6\nweights: {symmetric: false, granularity: group, group_size: 32}\n"
      "activations: {granularity: token}\nbatch_size: 4\nresidual: quantized\nquantize: "
      "{attention: true, head: true}\n"
      "ignore: ['lm_head', 're:.*fc2']\npasses:\n  - os_plus: {shift: always, samples: "
      "first_batch}\n  - rtn\n",
      "r");
  EXPECT_EQ(scheme_of(r), "W4A6");
  EXPECT_FALSE(r.weights.symmetric);
  EXPECT_EQ(r.weights.group_size, 32);
  EXPECT_TRUE(r.activations.dynamic);
  EXPECT_EQ(r.batch_size, 4);
  EXPECT_TRUE(r.residual_after_quant && r.quantize_attention && r.quantize_head &&
              !r.quantize_embeddings);
  EXPECT_TRUE(is_ignored(r, "lm_head") && is_ignored(r, "model.layers.0.fc2") &&
              !is_ignored(r, "model.layers.0.fc1"));
  EXPECT_EQ(r.passes.size(), 2U);
}

TEST(Recipe, RefusesWhatItDoesNotKnow) {
  expect_refused("scheme: W9A8", "W9A8");
  expect_refused("shceme: W8A8", "unknown key");
  expect_refused("scheme: W8A8\nscheme: W4A4", "duplicate key");
  expect_refused("weights: {num_bits: 1}", "from 2 to 8");
  expect_refused("weights: {granularity: group}", "group_size");
  expect_refused("activations: {granularity: token, dynamic: false}", "static");
  expect_refused("activations: {observer: median}", "median");
  expect_refused("passes: [adaquant]", "unknown");
  expect_refused("passes:\n  - os_plus: {alpha: 1}", "unknown key");
  expect_refused("passes:\n  - smoothquant: {alpha: 2}", "from 0 to 1");
  expect_refused("a: &x [*x]", "anchors");
  expect_refused("a: !!binary x", "anchors");
  expect_refused("[1, 2", "recipe");
  expect_refused("- 1", "mapping");
  expect_refused("name: a\n---\nname: b", "2 YAML documents");
  expect_refused("", "mapping");
  expect_refused(std::string(100000, '['), "deep");
}

TEST(Recipe, RefusesNumbersOutOfRange) {
  for (const char* number :
       {"-1", "0", "1.5", "nan", ".inf", "1e99", "99999999999999999999", "two", ""})
    for (const std::string key :
         {"batch_size: ", "weights: {granularity: group, group_size: ", "activations: {num_bits: "})
      expect_refused(key + "'" + number + "'" + (key.find('{') == std::string::npos ? "" : "}"),
                     "number");
  for (const char* setting :
       {"adaround: {iterations: ", "gptq: {sweeps: ", "peg: {groups: ",
        "token_wise_clipping: {epochs: ", "token_wise_clipping: {candidates: "})
    for (const char* number : {"-1", "2.5", "nan", "1e99"})
      expect_refused(std::string("passes: [{") + setting + number + "}}]", "number");
  for (const char* setting : {"os_plus: {floor: ", "smoothquant: {alpha: ", "gptq: {damping: ",
                              "token_wise_clipping: {step: "})
    for (const char* number : {"-1", "nan", "inf", "1e99", "x"})
      expect_refused(std::string("passes: [{") + setting + number + "}}]", "not a number");
}

TEST(Recipe, RefusesWhatHasNoEffect) {
  expect_refused("weights: {granularity: channel, group_size: 32}", "group_size");
  expect_refused("activations: {group_size: 32}", "group_size");
  expect_refused("weights: {symmetric: false, codes: full}", "codes");
  expect_refused("activations: {granularity: token, observer: mse}", "observer");
  expect_refused("activations: {granularity: token, double_count_first_batch: true}", "observer");
  expect_refused("scheme: W8A8\nweights: {num_bits: 4}", "W4A8");
  expect_refused("passes: [{os_plus: {scale: false, holdout: true}}]", "scale: false");
  expect_refused("passes: [{os_plus: {scale: false, shift: never}}]", "does nothing");
  expect_refused("passes: [{os_plus: {explicit_shift: true}}]", "explicit: true");
  expect_refused("passes: [{os_plus: {holdout: true, samples: first_batch}}]", "odd batches");
  expect_refused("passes: [{token_wise_clipping: {percentile: 0.9, step: 0.1}}]", "percentile");
  expect_refused("passes: [{token_wise_clipping: {percentile: 0.9, loss: outputs}}]", "percentile");
  expect_refused("passes: [{token_wise_clipping: {learning_rate: 0.1}}]", "epochs");
  // What says the same as leaving it out is no contradiction.
  EXPECT_NO_THROW(
      parse_recipe("scheme: W4A8\nweights: {num_bits: 4}\nactivations: {granularity: token, "
                   "observer: avg_minmax}",
                   "r"));
}

}  // namespace
}  // namespace quell
