// Every pass on every family: migration keeps the float function, and what is exported runs in
// integers as it was simulated.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>

#include "quell/base/error.h"
#include "quell/compress/compress.h"
#include "quell/compress/site.h"
#include "quell/engine/lower.h"
#include "quell/exporting/compressed_tensors.h"
#include "quell/exporting/float_checkpoint.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"
#include "quell/job/verify_job.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

Tensor main_output(const ForwardModel& model, const TokenBatch& batch, ExecContext& ctx) {
  ForwardOutputs outputs;
  model.forward(batch, outputs, ctx);
  for (const char* name : {"logits", "start_logits", "last_hidden_state"})
    if (const auto it = outputs.values.find(name); it != outputs.values.end())
      return std::move(it->second);
  return {};
}

/// Largest difference where the mask is 1, over 1 + the largest value.
double relative_difference(const Tensor& a, const Tensor& b, const TokenBatch& batch) {
  double difference = 0, largest = 0;
  for (std::int64_t i = 0; i < a.rows(); ++i) {
    if (a.rows() == batch.rows() && batch.decoder_length == 0 &&
        !batch.mask[static_cast<std::size_t>(i)])
      continue;
    for (std::int64_t j = 0; j < a.cols(); ++j) {
      difference = std::max(difference, std::fabs(static_cast<double>(a.row(i)[j]) -
                                                  static_cast<double>(b.row(i)[j])));
      largest = std::max(largest, std::fabs(static_cast<double>(a.row(i)[j])));
    }
  }
  return difference / (1 + largest);
}

constexpr const char* kRecipes[] = {
    "{scheme: W8A8, passes: [{smoothquant: {alpha: 0.5}}]}",
    "{scheme: W8A8, passes: [{os_plus: {shift: never}}]}",
    "{scheme: W6A6, passes: [{os_plus: {shift: always}}]}",
    "{scheme: W6A6, migrate: {relu: true, attention: true}, passes: [{os_plus: {shift: always}}]}"};

/// Not where a residual branch reads what a norm gives, nor where norms have no weights.
bool float_checkpoint_holds_changes(const Json& config) {
  const std::set<std::string> post_norm = {"albert",     "bart",    "bert",       "deberta-v2",
                                           "distilbert", "roberta", "xlm-roberta"};
  return !post_norm.contains(config["model_type"].get<std::string>()) &&
         config.value("do_layer_norm_before", true) &&
         config.value("layer_norm_elementwise_affine", true);
}

class Families : public ::testing::TestWithParam<std::string> {};

TEST_P(Families, MigrationKeepsTheFloatFunctionAndExportsRun) {
  QUELL_NEED_DATA(dir, "golden/models/" + GetParam());
  ExecContext ctx(2);
  const SafetensorsFile reference(dir / "reference.safetensors");
  for (const char* recipe : kRecipes) {
    Model model = load_model(Checkpoint::open(dir));
    std::vector<TokenBatch> samples;
    samples.push_back(read_recorded_inputs(reference, model.spec));
    const Tensor before = main_output(*make_float_model(model), samples[0], ctx);
    compress(model, samples, parse_recipe(recipe, "test"), ctx);
    EXPECT_TRUE(model.is_quantized());
    EXPECT_LE(relative_difference(before, main_output(*make_float_model(model), samples[0], ctx),
                                  samples[0]),
              1e-4)
        << recipe;
    const Tensor simulated =
        main_output(*make_simulated_model(model, true, ctx.isa), samples[0], ctx);

    const quell::testing::ScratchDir out;
    export_compressed_tensors(model, out / "model", false);
    const Model exported = load_model(Checkpoint::open(out / "model"));
    const Tensor integer = main_output(*lower(exported, ctx), samples[0], ctx);
    EXPECT_EQ(relative_difference(simulated, integer, samples[0]), 0) << recipe;
  }
}

/// The migrated float checkpoint is an ordinary one: it loads and computes what the original does.
/// Families that cannot hold it say so.
TEST_P(Families, MigratedFloatCheckpointEqualsTheOriginal) {
  QUELL_NEED_DATA(dir, "golden/models/" + GetParam());
  ExecContext ctx(2);
  Model model = load_model(Checkpoint::open(dir));
  std::vector<TokenBatch> samples;
  samples.push_back(
      read_recorded_inputs(SafetensorsFile(dir / "reference.safetensors"), model.spec));
  const Tensor before = main_output(*make_float_model(model), samples[0], ctx);
  compress(model, samples,
           parse_recipe("{scheme: W8A8, migrate: {relu: true, attention: true}, passes: "
                        "[{smoothquant: {alpha: 0.5}}]}",
                        "test"),
           ctx);
  const quell::testing::ScratchDir out;
  if (!float_checkpoint_holds_changes(read_json_file(dir / "config.json"))) {
    EXPECT_THROW(export_float_checkpoint(model, out / "model", false), Error);
    return;
  }
  export_float_checkpoint(model, out / "model", false);
  const Model migrated = load_model(Checkpoint::open(out / "model"));
  EXPECT_TRUE(migrated.unused_tensors.empty());
  EXPECT_FALSE(migrated.is_quantized());
  EXPECT_LE(relative_difference(before, main_output(*make_float_model(migrated), samples[0], ctx),
                                samples[0]),
            1e-4);
  const Model original = load_model(Checkpoint::open(dir));
  const auto first = [](const Model& m, std::string_view label) {
    for (const Param& p : m.params)
      if (p.label == label) return p.weight.f32()[0];
    return 0.0F;
  };
  EXPECT_NE(first(migrated, "attention_norm"), first(original, "attention_norm"))
      << "nothing was migrated";
  EXPECT_NE(first(migrated, "out_proj"), first(original, "out_proj"))
      << "nothing went through the attention";
}

/// Whether the first row of a sequence reads the last one.
bool looks_ahead(const fs::path& dir, TokenBatch batch, ExecContext& ctx) {
  const Model model = load_model(Checkpoint::open(dir));
  const auto first_row = [&] {
    ForwardOutputs outputs;
    make_float_model(model)->forward(batch, outputs, ctx);
    const Tensor& hidden = outputs.values.at("last_hidden_state");
    return std::vector<float>(hidden.row(0), hidden.row(0) + hidden.cols());
  };

  const std::vector<float> before = first_row();
  batch.ids.back() = (batch.ids.back() + 1) % static_cast<std::int32_t>(model.spec.vocab_size);
  return first_row() != before;
}

/// A decoder with "is_causal": false attends to both sides; where Quell cannot do that, it says so.
TEST_P(Families, IsCausalIsRead) {
  QUELL_NEED_DATA(dir, "golden/models/" + GetParam());
  const Model model = load_model(Checkpoint::open(dir));
  bool decodes = false;
  bool windows = false;
  for (const Node& node : model.graph.nodes()) {
    if (!node.is(op_attention)) continue;
    decodes |= attention_of(node).causal;
    windows |= attention_of(node).sliding_window > 0;
  }
  if (!decodes) GTEST_SKIP() << "an encoder";

  const quell::testing::ScratchDir copy;
  fs::copy(dir, copy / "model", fs::copy_options::recursive);
  Json config = read_json_file(dir / "config.json");
  config["is_causal"] = false;
  std::ofstream(copy / "model/config.json") << config;
  if (model.spec.model_type == "gpt_neo") {  // there the reference does not read the key either
    const Model same = load_model(Checkpoint::open(copy / "model"));
    for (NodeId n = 0; n < model.graph.num_nodes(); ++n) {
      if (!model.graph.node(n).is(op_attention)) continue;
      EXPECT_EQ(attention_of(same.graph.node(n)), attention_of(model.graph.node(n)));
    }
    return;
  }
  if (windows || model.graph.is_encoder_decoder()) {
    EXPECT_THROW(load_model(Checkpoint::open(copy / "model")), Error);
    return;
  }

  ExecContext ctx(1);
  const TokenBatch batch =
      make_batches({{{5, 6, 7, 8}, {}, {}}}, 1, model.spec.pad_token_id).front();
  EXPECT_FALSE(looks_ahead(dir, batch, ctx));
  EXPECT_TRUE(looks_ahead(copy / "model", batch, ctx));
}

struct Through {
  const char* family;
  int relu, attention;  ///< sites behind such a step
};
class ThroughSteps : public ::testing::TestWithParam<Through> {};

/// Two layers each; T5 has an attention more in its decoder's, and ALBERT one set of weights for
/// all.
TEST_P(ThroughSteps, LinearsBehindThemAbsorb) {
  QUELL_NEED_DATA(dir, std::string("golden/models/") + GetParam().family);
  const Model model = load_model(Checkpoint::open(dir));
  int relu = 0, attention = 0;
  for (const Site& site : derive_sites(model, {.through_relu = true, .through_attention = true})) {
    if (!site.through_step) continue;
    EXPECT_TRUE(site.migratable()) << site.name;
    const ChangedValue& changed = site.values.front();
    const std::int64_t rows = model.param_of(changed.producer_node).weight.rows();
    EXPECT_EQ(rows * site.shared().heads, model.param_of(site.linears.front()).weight.cols())
        << site.name;
    (changed.producer == ProducerKind::kLinear ? attention : relu) += 1;
  }
  EXPECT_EQ(relu, GetParam().relu);
  EXPECT_EQ(attention, GetParam().attention);
  for (const Site& site : derive_sites(model, {})) EXPECT_FALSE(site.through_step) << site.name;
}

INSTANTIATE_TEST_SUITE_P(Some, ThroughSteps,
                         ::testing::Values(Through{"opt", 2, 2}, Through{"bert-cls", 0, 2},
                                           Through{"llama", 0, 2}, Through{"bloom", 0, 2},
                                           Through{"albert-mlm", 0, 1}, Through{"t5", 4, 6},
                                           Through{"qwen3", 0, 2}),
                         [](const auto& info) {
                           std::string name = info.param.family;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

INSTANTIATE_TEST_SUITE_P(All, Families,
                         ::testing::ValuesIn(quell::testing::case_folders("golden/models")),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

}  // namespace
}  // namespace quell
