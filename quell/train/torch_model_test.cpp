// The interpreter beside its ops: parameters, taps, dropout points, places of quantizers, and what
// is refused.
#include "quell/train/torch_model.h"

#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/graph/forms.h"
#include "quell/train/small_models.h"

namespace quell::train {
namespace {

constexpr std::int32_t kWords = 7;

/// An attention layer between an embedding and a head that is tied to it.
Architecture small_decoder(bool learns_padding = false) {
  ModelBuilder g;
  g.spec.model_type = "small";
  g.spec.vocab_size = kWords;
  g.spec.hidden_size = 8;
  g.spec.max_position_embeddings = 8;
  g.spec.has_pad_token = true;
  g.spec.pad_token_id = 1;
  ValueId h = g.embedding("word_embeddings", "embed", g.token_ids(), {kWords, 8},
                          {.learns_padding = learns_padding});
  g.hidden_state(h);
  AttentionRecipe recipe;
  recipe.num_heads = recipe.num_kv_heads = 2;
  recipe.head_dim = 4;
  recipe.causal = true;
  {
    const auto layer = g.layer("layers", 0);
    const ValueId x = g.layer_norm("attention_norm", "norm", h, 1e-5);
    const auto part = [&](int i) { return Packing{.transposed = true, .part = i, .parts = 3}; };
    const auto project = [&](const char* label, int i) {
      return g.linear(label, label, x, 8,
                      {.bias = true,
                       .packing = part(i),
                       .weight_name = "layers.0.qkv.weight",
                       .bias_name = "layers.0.qkv.bias"});
    };
    const ValueId q = project("q", 0);
    const ValueId k = project("k", 1);
    const ValueId v = project("v", 2);
    const ValueId out = g.linear("out", "out", g.attention(recipe, q, k, v), 8, {.bias = true});
    h = g.add(h, out);
    g.hidden_state(h);
  }
  g.output("last_hidden_state", h);
  g.output("logits",
           g.linear("lm_head", "head", h, kWords, {.role = Role::kLmHead, .tied_to = "embed"}));
  return {g.spec, g.take()};
}

ValueId value_of(const Model& model, const char* label) {
  return model.graph.node(model.graph.find(label)).out;
}

double biggest_difference(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST(TorchModel, TrainsWhatACheckpointStoresUnderItsNames) {
  const Model model = random_model(small_decoder());
  const TorchModel trained(model);
  std::vector<std::string> names;
  for (const TorchParameter& p : trained.parameters().trained()) {
    names.push_back(p.name);
    EXPECT_TRUE(p.tensor.requires_grad()) << p.name;
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{"embed.weight", "layers.0.norm.weight", "layers.0.norm.bias",
                                      "layers.0.qkv.weight", "layers.0.qkv.bias",
                                      "layers.0.out.weight", "layers.0.out.bias"}));
  EXPECT_EQ(trained.parameters().at("layers.0.qkv.weight").sizes().vec(),
            (std::vector<std::int64_t>{24, 8}));
  EXPECT_NE(refusal([&] { trained.parameters().at("head.weight"); }).find("head.weight"),
            std::string::npos);
}

TEST(TorchModel, WritesBackWhatItTrained) {
  Model model = random_model(small_decoder());
  const TorchModel trained(model, torch::kFloat64);
  {
    const torch::NoGradGuard guard;
    for (const TorchParameter& p : trained.parameters().trained()) p.tensor.mul_(1.25).add_(0.5);
  }
  const torch::Tensor want =
      trained.forward(small_batch(kWords)).values.at("logits").to(torch::kFloat32);

  trained.parameters().write_to(model);
  const torch::Tensor got = TorchModel(model).forward(small_batch(kWords)).values.at("logits");
  EXPECT_LT(biggest_difference(got, want), 1e-4);
  const Param& key = model.param_of(model.graph.find("layers.0.k"));
  const torch::Tensor fused = trained.parameters().at("layers.0.qkv.weight");
  EXPECT_FLOAT_EQ(key.weight.row(2)[3], fused[8 + 2][3].item<float>());
}

TEST(TorchModel, LooksUpPaddingWithoutAGradient) {
  for (const bool learns : {false, true}) {
    const Model model = random_model(small_decoder(learns));
    const TorchModel trained(model, torch::kFloat64);
    // Of the hidden states: the tied head reads all rows.
    trained.forward(small_batch(kWords)).values.at("last_hidden_state").square().sum().backward();
    const torch::Tensor gradient = trained.parameters().at("embed.weight").grad();
    EXPECT_EQ(gradient[1].abs().sum().item<double>() > 0, learns);
    EXPECT_GT(gradient[0].abs().sum().item<double>(), 0);
  }
}

TEST(TorchModel, GivesTheTapsItIsAskedFor) {
  const Model model = random_model(small_decoder());
  const TorchModel trained(model, torch::kFloat64);
  const NodeId attention = model.graph.find("layers.0.attention");
  const ValueId query = value_of(model, "layers.0.q");
  const ValueId value = value_of(model, "layers.0.v");
  Taps taps;
  taps.values = {query, value};
  for (const AttentionStage stage : {AttentionStage::kQuery, AttentionStage::kScores,
                                     AttentionStage::kMap, AttentionStage::kContext})
    taps.attention.push_back({attention, stage});
  const TorchOutputs out = trained.forward(small_batch(kWords), taps);

  using Sizes = std::vector<std::int64_t>;
  const auto stage = [&](AttentionStage s) { return out.attention.at({attention, s}); };
  EXPECT_EQ(out.taps.size(), 2U);
  EXPECT_EQ(out.taps.at(query).sizes().vec(), (Sizes{10, 8}));
  EXPECT_EQ(stage(AttentionStage::kQuery).sizes().vec(), (Sizes{2, 2, 5, 4}));
  EXPECT_EQ(stage(AttentionStage::kScores).sizes().vec(), (Sizes{2, 2, 5, 5}));
  const torch::Tensor map = stage(AttentionStage::kMap);
  EXPECT_LT(biggest_difference(map.sum(-1), torch::ones({2, 2, 5}, torch::kFloat64)), 1e-12);
  EXPECT_EQ(map[0][0][1][2].item<double>(), 0) << "a token saw the next one";
  EXPECT_EQ(map[1][0][4][3].item<double>(), 0) << "a token saw padding";
  const torch::Tensor heads = out.taps.at(value).view({2, 5, 2, 4}).transpose(1, 2);
  const torch::Tensor context = torch::matmul(map, heads);
  EXPECT_LT(biggest_difference(context, stage(AttentionStage::kContext)), 1e-12);

  EXPECT_NE(refusal([&] { trained.forward(small_batch(kWords), {{-3}, {}}); }), "");
  EXPECT_NE(refusal([&] {
              trained.forward(small_batch(kWords), {{}, {{0, AttentionStage::kMap}}});
            }).find("no attention"),
            std::string::npos);
}

TEST(TorchModel, RefusesBatchesThatDoNotFit) {
  const Model model = random_model(small_decoder());
  const TorchModel trained(model);
  TokenBatch batch = small_batch(kWords);
  batch.ids[3] = kWords;
  EXPECT_NE(refusal([&] { trained.forward(batch); }).find("token id 7 is outside"),
            std::string::npos);

  batch = small_batch(kWords);
  batch.length = 10;
  batch.batch = 1;
  EXPECT_NE(refusal([&] { trained.forward(batch); }).find("longer than the model's 8"),
            std::string::npos);
  batch.starts = {0, 10};
  EXPECT_NE(refusal([&] { trained.forward(batch); }).find("padded batches"), std::string::npos);
}

TEST(TorchModel, RefusesOpsWithoutAFunction) {
  static const OpDef unknown = {.name = "unheard_of", .infer = like_operand};
  ModelBuilder g;
  g.spec.model_type = "odd";
  g.spec.max_position_embeddings = 8;
  const ValueId x = g.embedding("words", "words", g.token_ids(), {kWords, 4});
  g.output("out", g.node(unknown, {x}));
  const Model model = random_model({g.spec, g.take()});
  EXPECT_EQ(refusal([&] { TorchModel trained(model); }),
            "odd cannot be trained: no gradient of unheard_of");
}

TEST(TorchDropout, IsDrawnFromSeedStepAndPlace) {
  const torch::Tensor x = torch::ones({200, 101});
  const torch::Tensor dropped = drop_out(x, 0.25, {7, 3}, 5);
  EXPECT_TRUE(dropped.equal(drop_out(x, 0.25, {7, 3}, 5)));
  for (const auto& [draw, place] :
       {std::pair{DropoutDraw{8, 3}, 5}, std::pair{DropoutDraw{7, 4}, 5},
        std::pair{DropoutDraw{7, 3}, 6}})
    EXPECT_FALSE(dropped.equal(drop_out(x, 0.25, draw, static_cast<std::uint64_t>(place))));

  const double share = dropped.eq(0).to(torch::kFloat64).mean().item<double>();
  EXPECT_NEAR(share, 0.25, 0.02);
  EXPECT_NEAR(dropped.max().item<double>(), 1 / 0.75, 1e-6);
  EXPECT_NE(refusal([&] { drop_out(x, 1, {7, 3}, 5); }), "");
}

TEST(TorchDropout, ActsWhileTrainingAlone) {
  const Model model = random_model(small_decoder());
  TorchModel trained(model);
  const TokenBatch batch = small_batch(kWords);
  const torch::Tensor before = trained.forward(batch).values.at("logits");
  const DropoutPoints points =
      dropout_points(model.graph, {.hidden = 0.3, .attention = 0.2, .head = 0.1});
  EXPECT_EQ(points.values, (std::map<ValueId, double>{{value_of(model, "word_embeddings"), 0.3},
                                                      {value_of(model, "layers.0.out"), 0.3}}));
  EXPECT_EQ(points.maps, (std::map<NodeId, double>{{model.graph.find("layers.0.attention"), 0.2}}));

  trained.set_dropout(points);
  EXPECT_TRUE(before.equal(trained.forward(batch).values.at("logits")));
  const auto at_step = [&](std::int64_t step) {
    return trained.forward(batch, {}, DropoutDraw{1, step}).values.at("logits");
  };
  EXPECT_FALSE(before.equal(at_step(0)));
  EXPECT_TRUE(at_step(2).equal(at_step(2)));
  EXPECT_FALSE(at_step(2).equal(at_step(3)));
}

/// Counts its calls and doubles what it is given.
struct Doubling {
  std::shared_ptr<int> calls = std::make_shared<int>(0);
  std::shared_ptr<std::vector<std::int64_t>> seen = std::make_shared<std::vector<std::int64_t>>();
  torch::Tensor operator()(const torch::Tensor& x) const {
    ++*calls;
    *seen = x.sizes().vec();
    return x * 2;
  }
};

TEST(TorchQuantizers, StandBehindQuantizeNodesAlone) {
  Model model = random_model(small_decoder());
  TorchModel trained(model, torch::kFloat64);
  const TokenBatch batch = small_batch(kWords);
  const ValueId x = value_of(model, "layers.0.attention_norm");
  const ValueId query = value_of(model, "layers.0.q");
  const ValueId key = value_of(model, "layers.0.k");
  const Taps taps{{query, key}, {}};
  const TorchOutputs before = trained.forward(batch, taps);
  EXPECT_NE(refusal([&] { trained.set_quantizers({.values = {{x, Doubling()}}}); }), "");

  const NodeId reader = model.graph.find("layers.0.q");
  set_input_quant(model.graph, x, {}, false,
                  [&](const Node& n) { return n.label == model.graph.node(reader).label; });
  const Doubling slot;
  trained.set_quantizers({.values = {{x, slot}}});
  const TorchOutputs after = trained.forward(batch, taps);
  EXPECT_EQ(*slot.calls, 1);
  const torch::Tensor bias = trained.parameters().at("layers.0.qkv.bias").narrow(0, 0, 8);
  EXPECT_LT(biggest_difference(after.taps.at(query) - bias, 2 * (before.taps.at(query) - bias)),
            1e-12);
  EXPECT_EQ(biggest_difference(after.taps.at(key), before.taps.at(key)), 0);
}

TEST(TorchQuantizers, OfTiedWeightsAreAppliedOnce) {
  Model model = random_model(small_decoder());
  TorchModel trained(model, torch::kFloat64);
  const TokenBatch batch = small_batch(kWords);
  const ParamId table = model.graph.node(model.graph.find("word_embeddings")).param;
  const ParamId head = model.graph.node(model.graph.find("lm_head")).param;
  set_weight_quant(model.graph, table, {});
  set_weight_quant(model.graph, head, {});
  const torch::Tensor plain = trained.forward(batch).values.at("logits");

  const Doubling shared;
  trained.set_quantizers({.weights = {{table, shared}}});
  const TorchOutputs both = trained.forward(batch);
  EXPECT_EQ(*shared.calls, 1);

  // The same of two functions that know nothing of each other.
  const Doubling first;
  const Doubling second;
  trained.set_quantizers({.weights = {{table, first}, {head, second}}});
  EXPECT_TRUE(trained.forward(batch).values.at("logits").equal(both.values.at("logits")));
  EXPECT_EQ(*first.calls + *second.calls, 2);

  // The head alone.
  trained.set_quantizers({.weights = {{head, second}}});
  const torch::Tensor head_alone = trained.forward(batch).values.at("logits");
  EXPECT_LT(biggest_difference(head_alone, 2 * plain), 1e-12);
  EXPECT_NE(refusal([&] {
              const ParamId norm =
                  model.graph.node(model.graph.find("layers.0.attention_norm")).param;
              trained.set_quantizers({.weights = {{norm, second}}});
            }),
            "");
}

TEST(TorchQuantizers, MaySeeFusedWeightsWhole) {
  Model model = random_model(small_decoder());
  TorchModel trained(model, torch::kFloat64);
  const TokenBatch batch = small_batch(kWords);
  const auto param = [&](const char* label) {
    return model.graph.node(model.graph.find(label)).param;
  };
  for (const char* label : {"layers.0.q", "layers.0.k", "layers.0.v"})
    set_weight_quant(model.graph, param(label), {});

  const Doubling whole;
  trained.set_quantizers({.fused = {{"layers.0.qkv.weight", whole}}});
  const torch::Tensor at_once = trained.forward(batch).values.at("logits");
  EXPECT_EQ(*whole.calls, 1);
  EXPECT_EQ(*whole.seen, (std::vector<std::int64_t>{24, 8}));

  const Doubling part;
  trained.set_quantizers(
      {.weights = {
           {param("layers.0.q"), part}, {param("layers.0.k"), part}, {param("layers.0.v"), part}}});
  EXPECT_TRUE(trained.forward(batch).values.at("logits").equal(at_once));
  EXPECT_EQ(*part.seen, (std::vector<std::int64_t>{8, 8}));
  EXPECT_NE(refusal([&] { trained.set_quantizers({.fused = {{"no.weight", whole}}}); }), "");
}

TEST(TorchQuantizers, StandAtTheProductsOfAttentions) {
  const Model model = random_model(small_decoder());
  TorchModel trained(model, torch::kFloat64);
  const TokenBatch batch = small_batch(kWords);
  const NodeId attention = model.graph.find("layers.0.attention");
  const AttentionPoint scores{attention, AttentionStage::kScores};
  const AttentionPoint map{attention, AttentionStage::kMap};
  const AttentionPoint context{attention, AttentionStage::kContext};
  const Taps taps{{}, {scores, map, context}};
  const TorchOutputs before = trained.forward(batch, taps);

  trained.set_quantizers({.attention = {{map, Doubling()}}});
  const TorchOutputs doubled_map = trained.forward(batch, taps);
  EXPECT_TRUE(doubled_map.attention.at(map).equal(before.attention.at(map)))
      << "taps see the map in front of its quantizer";
  EXPECT_TRUE(doubled_map.attention.at(context).equal(before.attention.at(context) * 2));

  trained.set_quantizers({.attention = {{{attention, AttentionStage::kKey}, Doubling()}}});
  const TorchOutputs doubled_key = trained.forward(batch, taps);
  EXPECT_TRUE(doubled_key.attention.at(scores).equal(before.attention.at(scores) * 2));
  EXPECT_NE(refusal([&] { trained.set_quantizers({.attention = {{scores, Doubling()}}}); }), "");
}

}  // namespace
}  // namespace quell::train
