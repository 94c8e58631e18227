// Passes that change what goes into linears and leave the float function alone, on a BERT of two
// sentences with given norm inputs.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "quell/compress/compress.h"
#include "quell/compress/pass.h"
#include "quell/compress/site_problem.h"
#include "quell/graph/forms.h"
#include "quell/io/json.h"
#include "quell/job/random_model.h"
#include "quell/quant/quantize.h"
#include "tests/support/golden_numbers.h"

namespace quell {
namespace {

/// One layer of 8 channels; embeddings are the 2 * 3 rows of x, in order, and the norm behind them
/// feeds q, k, v and a branch.
class SmallBert : public ::testing::Test {
 protected:
  static constexpr std::int64_t kHidden = 8, kTokens = 3;

  SmallBert() {
    model = make_zero_model(
        R"({"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 6, "hidden_size": 8,
      "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4, "hidden_act": "gelu",
      "max_position_embeddings": 4, "type_vocab_size": 1, "layer_norm_eps": 1e-12})");
    quell::testing::GoldenNumbers numbers(9);
    const Tensor gamma = numbers.make({kHidden}, 0.2, 3), beta = numbers.make({kHidden}, -1, 1);
    const Tensor w = numbers.make({4, kHidden}, -0.5, 0.5);
    for (Param& p : model.params) {
      if (p.module.ends_with("LayerNorm"))
        for (float& g : p.weight.f32()) g = 1;
      if (p.module.ends_with("query"))
        std::copy_n(w.f32().begin(), w.numel(), p.weight.f32().begin());
      if (p.module.ends_with("key"))
        std::copy_n(w.f32().begin(), w.numel(), p.weight.f32().begin() + w.numel());
      if (p.module.ends_with("output.dense")) p.weight = numbers.make(p.weight.shape(), -0.5, 0.5);
      if (p.module.ends_with("embeddings.LayerNorm"))
        p.weight = gamma.clone(), p.bias = beta.clone();
      if (p.module.ends_with("word_embeddings")) p.weight = numbers_for_tokens(w);
    }
    std::vector<TokenSequence> sequences(2);
    for (std::int32_t i = 0; i < 2 * kTokens; ++i)
      sequences[static_cast<std::size_t>(i / kTokens)].ids.push_back(i);
    batches = make_batches(sequences, 2, -1);
    value = derive_sites(model, {}).front().value();
  }

  /// The specification draws X right behind W.
  static Tensor numbers_for_tokens(const Tensor& w) {
    quell::testing::GoldenNumbers numbers(9);
    numbers.make({2 * kHidden + w.numel()}, 0, 1);
    return numbers.make({2 * kTokens, kHidden}, -3, 3);
  }
  Tensor computed(ValueId v) {
    const OpTable ops = make_float_ops(model);
    Executor executor(model, ops, false, batches.front(), ctx);
    executor.keep_values = true;
    executor.run_until();
    return v == value ? executor.value(v).clone() : executor.seen(v);
  }
  Tensor output() { return computed(model.graph.outputs.front().second); }
  Recipe recipe(const char* pass, std::map<std::string, std::string> options) {
    Recipe r = load_recipe("minmax");
    r.passes.clear();
    r.passes.emplace_back(pass, std::move(options));
    return r;
  }

  /// Four groups of two channels.
  void expect_groups(bool permute) {
    const Tensor x = computed(value), before = output();
    std::vector<Range> ranges(kHidden);  // they hold 0, as those of quantizers do
    for (std::int64_t i = 0; i < x.rows(); ++i)
      for (std::size_t j = 0; j < ranges.size(); ++j)
        ranges[j] = hull(ranges[j], {x.row(i)[j], x.row(i)[j]});
    std::vector<std::size_t> order(kHidden);
    std::iota(order.begin(), order.end(), 0);
    if (permute)
      std::sort(order.begin(), order.end(),
                [&](std::size_t a, std::size_t b) { return width(ranges[a]) < width(ranges[b]); });
    std::vector<Range> of_group(kHidden);
    Range widest;
    for (std::size_t i = 0; i < order.size(); i += 2) {
      const Range group = hull(ranges[order[i]], ranges[order[i + 1]]);
      of_group[order[i]] = of_group[order[i + 1]] = group;
      if (width(group) > width(widest)) widest = group;
    }
    compress(model, batches,
             recipe("peg",
                    {{"groups", "4"}, {"permute", permute ? "true" : "false"}, {"folded", "true"}}),
             ctx);
    const Tensor got = computed(value), after = output();
    for (std::int64_t i = 0; i < x.rows(); ++i)
      for (std::int64_t j = 0; j < kHidden; ++j) {
        const Range& group = of_group[static_cast<std::size_t>(j)];
        EXPECT_NEAR((got.row(i)[j] - widest.min) / width(widest),
                    (x.row(i)[j] - group.min) / width(group), 1e-5F)
            << i << ", " << j;
      }
    for (std::size_t i = 0; i < after.f32().size(); ++i)
      EXPECT_NEAR(after.f32()[i], before.f32()[i], 1e-4F);
  }
  static float width(const Range& r) { return r.max - r.min; }
  static Range hull(const Range& a, const Range& b) {
    return {std::min(a.min, b.min), std::max(a.max, b.max)};
  }

  ExecContext ctx{1};
  Model model;
  std::vector<TokenBatch> batches;
  ValueId value = -1;
};

/// The sites of the paper's code in an encoder-decoder: every norm in front of linears and a
/// residual branch, but the last of the encoder (cross-attention reads it in every layer of the
/// decoder) and the last of the decoder.
TEST(GammaMigration, SitesOfBart) {
  Model model = make_zero_model(
      R"({"model_type": "bart", "architectures": ["BartModel"], "vocab_size": 6, "d_model": 8,
    "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16, "max_position_embeddings": 8, "activation_function": "gelu", "pad_token_id": 1})");
  const auto pass = make_pass(PassParams("gamma_migration", {}), load_recipe("minmax"));
  std::map<std::string, std::vector<std::string>> found;
  for (const Site& site : derive_sites(model, {})) {
    if (!pass->may_change(site)) continue;
    std::vector<std::string>& linears =
        found[model.param_of(site.values.front().producer_node).module];
    for (const int n : site.linears) linears.push_back(model.param_of(n).module);
    std::sort(linears.begin(), linears.end());
  }
  const std::string encoder = "model.encoder.", decoder = "model.decoder.";
  const auto layer = [](const std::string& stack, int i) {
    return stack + "layers." + std::to_string(i) + ".";
  };
  const auto self_attention = [&](const std::string& stack, int i) {
    const std::string in = layer(stack, i) + "self_attn.";
    return std::vector<std::string>{in + "k_proj", in + "q_proj", in + "v_proj"};
  };
  std::map<std::string, std::vector<std::string>> want;
  for (const std::string& stack : {encoder, decoder}) {
    want[stack + "layernorm_embedding"] = self_attention(stack, 0);
    want[layer(stack, 0) + "final_layer_norm"] = self_attention(stack, 1);
  }
  for (int i = 0; i < 2; ++i) {
    want[layer(encoder, i) + "self_attn_layer_norm"] = {layer(encoder, i) + "fc1"};
    want[layer(decoder, i) + "self_attn_layer_norm"] = {layer(decoder, i) + "encoder_attn.q_proj"};
    want[layer(decoder, i) + "encoder_attn_layer_norm"] = {layer(decoder, i) + "fc1"};
  }
  EXPECT_EQ(found, want);
}

/// Vector 10 of the specification: the official code's split norm, whose epsilon is 1e-5.
TEST_F(SmallBert, GammaMigrationAsTheOfficialCode) {
  const Tensor before = output();
  compress(model, batches, recipe("gamma_migration", {{"epsilon", "compat"}}), ctx);
  EXPECT_EQ(first_norm(model.graph).eps, 1e-5);
  EXPECT_EQ((*model.config)["layer_norm_eps"], 1e-5);
  const float want[] = {0.377451718F,  -1.34433818F, 1.21422982F,  5.00936651F,
                        -0.998419404F, -0.47777161F, -2.54853582F, -0.831988573F};
  const Tensor got = computed(value);
  for (std::int64_t j = 0; j < kHidden; ++j) EXPECT_NEAR(got.row(0)[j], want[j], 2e-6F) << j;
  const Tensor after = output();
  for (std::size_t i = 0; i < after.f32().size(); ++i)
    EXPECT_NEAR(after.f32()[i], before.f32()[i], 1e-4F);
}

TEST_F(SmallBert, GammaMigrationKeepsTheEpsilonByDefault) {
  compress(model, batches, recipe("gamma_migration", {}), ctx);
  EXPECT_EQ(first_norm(model.graph).eps, 1e-12);
  EXPECT_EQ((*model.config)["layer_norm_eps"], 1e-12);
}

TEST_F(SmallBert, GammaMigrationSeesResidualsBehindARestoration) {
  const auto pass = make_pass(PassParams("gamma_migration", {}), load_recipe("minmax"));
  const auto taken = [&] {
    std::vector<std::string> names;
    for (const Site& site : derive_sites(model, {}))
      if (pass->may_change(site)) names.push_back(site.name);
    return names;
  };
  const std::vector<std::string> before = taken();
  ASSERT_FALSE(before.empty());

  for (const Site& site : derive_sites(model, {})) {
    Tensor ones = Tensor::f32({model.graph.value(site.value()).type.columns});
    std::fill(ones.f32().begin(), ones.f32().end(), 1.0F);
    restore_for_others(model.graph, site.value(), ones, Tensor());
  }
  EXPECT_EQ(taken(), before);
}

/// Where a value lies in the range of its group, there its image lies in that of the widest group.
TEST_F(SmallBert, PerEmbeddingGroupsShareTheWidestRange) { expect_groups(false); }
TEST_F(SmallBert, PerEmbeddingGroupsOfChannelsSortedByRange) { expect_groups(true); }

TEST_F(SmallBert, WhatAnySearchComparesWithLiesWhereTheModelSays) {
  const Tensor x = Tensor::f32({2 * kTokens, kHidden});
  model.scratch = std::make_shared<ScratchFile>(std::filesystem::temp_directory_path());
  for (const bool values : {false, true}) {
    model.values_in_scratch = values;
    for (const Site& site : derive_sites(model, {})) {
      SiteActivations activations;
      activations.x = {&x};
      activations.batches = {&batches.front()};
      EXPECT_EQ(describe_site(site, activations, {}, {}).scratch, values ? model.scratch : nullptr)
          << site.name;
    }
  }
}

/// Where up_proj's codes are chosen with one step, its rows cannot take what down_proj's inputs are
/// divided by.
TEST(PerEmbeddingGroups, LeavesSitesBehindOneStepAlone) {
  Model model = make_zero_model(
      R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 6, "hidden_size": 8,
    "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "max_position_embeddings": 8, "tie_word_embeddings": true})");
  quell::testing::GoldenNumbers numbers(3);
  for (Param& p : model.params)
    if (p.tied_to < 0 && p.weight.defined()) p.weight = numbers.make(p.weight.shape(), -1, 1);
  std::vector<TokenSequence> sequences(1);
  sequences[0].ids = {0, 1, 2, 3, 4, 5};
  Recipe recipe = load_recipe("peg_folded");
  recipe.weights.granularity = Granularity::kPerTensor;
  ExecContext ctx(1);
  compress(model, make_batches(sequences, 1, -1), recipe, ctx);
  EXPECT_TRUE(model.is_quantized());
}

/// Where layers share weights, what the last of them computes changes with the others, but no
/// quantized linear reads it.
TEST(InputQuantizers, LieWhereQuantizedLinearsRead) {
  const char* config =
      R"({"model_type": "albert", "architectures": ["AlbertForMaskedLM"], "vocab_size": 6, "embedding_size": 8,
    "hidden_size": 16, "num_hidden_layers": 2, "num_hidden_groups": 1, "inner_group_num": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "hidden_act": "gelu", "max_position_embeddings": 8, "type_vocab_size": 1, "layer_norm_eps": 1e-12})";
  std::vector<TokenSequence> sequences(1);
  sequences[0].ids = {0, 1, 2, 3, 4, 5};
  ExecContext ctx(1);
  for (const char* recipe : {"minmax", "peg"}) {
    Model quantized = make_zero_model(config);
    quell::testing::GoldenNumbers numbers(3);
    for (Param& p : quantized.params)
      if (p.tied_to < 0 && p.weight.defined()) p.weight = numbers.make(p.weight.shape(), -1, 1);
    compress(quantized, make_batches(sequences, 1, -1), load_recipe(recipe), ctx);
    for (const ValueId value : bases_with(quantized.graph, op_quantize)) {
      const std::vector<NodeId> uses = readers_of(quantized.graph, value);
      EXPECT_TRUE(std::any_of(uses.begin(), uses.end(),
                              [&](int n) {
                                return quantized.graph.node(n).is(op_linear) &&
                                       quantized.param_of(n).quantized;
                              }))
          << recipe << ": value " << value;
    }
  }
}

/// Steps of their own: the broadest channel shares one with the broadest others, and inputs lose
/// less than with one step a tensor.
TEST(PerEmbeddingGroups, GiveGroupsOfChannelsStepsOfTheirOwn) {
  const auto quantized = [](const char* name) {
    Model model = make_zero_model(
        R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 16, "hidden_size": 32,
      "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "hidden_act": "silu", "rms_norm_eps": 1e-5,
      "max_position_embeddings": 16, "tie_word_embeddings": true})");
    quell::testing::GoldenNumbers numbers(5);
    for (Param& p : model.params)
      if (p.tied_to < 0 && p.weight.defined()) p.weight = numbers.make(p.weight.shape(), -1, 1);
    for (Param& p : model.params)
      if (p.module.ends_with("embed_tokens"))
        for (std::int64_t i = 0; i < p.weight.rows(); ++i) p.weight.row(i)[5] *= 30;
    std::vector<TokenSequence> sequences(2);
    for (std::int32_t i = 0; i < 16; ++i)
      sequences[static_cast<std::size_t>(i / 8)].ids.push_back(i);
    Recipe recipe = load_recipe(name);
    if (name == std::string("peg")) recipe.passes.front() = PassParams("peg", {{"groups", "4"}});
    ExecContext ctx(1);
    const std::vector<TokenBatch> batches = make_batches(sequences, 2, -1);
    compress(model, batches, recipe, ctx);
    const Site site = derive_sites(model, {}).front();
    const ActivationQuant quant = *input_quant_of(model.graph, site.value());
    double error = 0;
    for_each_site_input(
        model, {site}, batches, ctx, [&](std::size_t, const SiteActivations& inputs) {
          const Tensor& x = *inputs.x.front();
          Tensor rounded = Tensor::f32(x.shape());
          fake_quantize_activations(x, quant, Rounding::kReciprocal, rounded.span(), ctx);
          for (std::size_t i = 0; i < x.f32().size(); ++i) {
            const double d =
                static_cast<double>(x.f32()[i]) - static_cast<double>(rounded.f32()[i]);
            error += d * d;
          }
        });
    return std::pair(quant, error);
  };
  const auto [whole, whole_error] = quantized("minmax");
  const auto [grouped, grouped_error] = quantized("peg");
  EXPECT_FALSE(whole.groups);
  ASSERT_TRUE(grouped.groups);
  ASSERT_EQ(grouped.groups->steps.size(), 4U);
  EXPECT_EQ(grouped.groups->size(), 8);
  for (std::size_t g = 1; g < 4; ++g)
    EXPECT_GE(grouped.groups->steps[g].scale, grouped.groups->steps[g - 1].scale);
  EXPECT_EQ(grouped.groups->channels.back(), 5);
  EXPECT_FLOAT_EQ(grouped.qparams.scale, whole.qparams.scale)
      << "what a reader without groups would use";
  EXPECT_LT(grouped_error, whole_error / 2);
}

}  // namespace
}  // namespace quell
