// Every op of the folder on a small graph: its values beside those of the float engine, and its
// gradients beside finite differences in double.
#include <gtest/gtest.h>

#include <set>

#include "quell/engine/engines.h"
#include "quell/graph/forms.h"
#include "quell/graph/image_ops.h"
#include "quell/train/small_models.h"
#include "quell/train/torch_model.h"
#include "quell/train/torch_op.h"

namespace quell::train {
namespace {

constexpr std::int32_t kVocabulary = 7;
constexpr std::int64_t kWidth = 8;

struct OpCase {
  std::string name;
  /// Of token embeddings [10, kWidth].
  std::function<ValueId(ModelBuilder& g, ValueId x)> build;
};

AttentionRecipe two_heads() {
  AttentionRecipe recipe;
  recipe.num_heads = 2;
  recipe.num_kv_heads = 2;
  recipe.head_dim = 4;
  recipe.scale = inverse_sqrt_of(4);
  return recipe;
}

ValueId attend(ModelBuilder& g, const AttentionRecipe& recipe, ValueId x,
               AttentionInputs inputs = {}, ValueId memory = kNoValue) {
  if (memory == kNoValue) memory = x;
  const std::int64_t keys = recipe.num_kv_heads * recipe.head_dim;
  const ValueId q = g.linear("q", "q", x, recipe.num_heads * recipe.head_dim, {.bias = true});
  const ValueId k = g.linear("k", "k", memory, keys, {.bias = true});
  const ValueId v = g.linear("v", "v", memory, keys, {.bias = true});
  if (recipe.needs_positions()) inputs.positions = g.position_ids({PositionRule::kMaskCount});
  return g.attention(recipe, q, k, v, inputs);
}

ValueId attend_by_distance(ModelBuilder& g, ValueId x) {
  AttentionRecipe recipe = two_heads();
  recipe.disentangled = {.span = 4,
                         .buckets = 4,
                         .max_distance = 8,
                         .content_to_position = true,
                         .position_to_content = true};
  const ValueId table = g.table("relative", "relative", {8, kWidth});
  const ValueId query = g.linear("relative_q", "relative_q", table, kWidth, {.bias = true});
  const ValueId key = g.linear("relative_k", "relative_k", table, kWidth, {.bias = true});
  return attend(g, recipe, x, {.relative_query = query, .relative_key = key});
}

ValueId rotated(ModelBuilder& g, ValueId x, const RotaryRecipe& rotary) {
  AttentionRecipe recipe = two_heads();
  recipe.causal = true;
  recipe.num_kv_heads = 1;
  recipe.rotary = rotary;
  return attend(g, recipe, x);
}

ValueId cross(ModelBuilder& g, ValueId) {
  ValueId memory = kNoValue;
  {
    const auto encoder = g.encoder("encoder");
    memory = g.embedding("words", "words", g.token_ids(), {kVocabulary, kWidth});
  }
  const auto decoder = g.decoder("decoder");
  const ValueId h = g.embedding("words", "words", g.token_ids(), {kVocabulary, kWidth});
  AttentionRecipe recipe = two_heads();
  recipe.cross = true;
  return attend(g, recipe, h, {}, memory);
}

ValueId queries(ModelBuilder& g, ValueId) {
  g.spec.num_queries = 3;
  ValueId memory = kNoValue;
  {
    const auto encoder = g.encoder("encoder");
    memory = g.embedding("words", "words", g.token_ids(), {kVocabulary, kWidth});
  }
  const auto decoder = g.decoder("decoder");
  const ValueId h = g.node_with(op_learned_queries, "queries", "queries", {}, {3, kWidth}, {}, {});
  AttentionRecipe recipe = two_heads();
  recipe.cross = true;
  return attend(g, recipe, h, {}, memory);
}

ValueId affine_and_back(ModelBuilder& g, ValueId x) {
  Tensor scale = Tensor::f32({kWidth});
  Tensor shift = Tensor::f32({kWidth});
  for (std::size_t i = 0; i < kWidth; ++i) {
    scale.f32()[i] = 0.5F + static_cast<float>(i);
    shift.f32()[i] = 0.1F * static_cast<float>(i);
  }
  const ValueId divided =
      g.node(op_affine, {x}, Attributes::of(ChannelAffine{scale.clone(), shift.clone()}));
  const ValueId curved = g.activation(ActivationKind::kTanh, divided);
  return g.node(op_restore, {curved}, Attributes::of(ChannelAffine{scale.clone(), shift.clone()}));
}

std::vector<OpCase> op_cases() {
  std::vector<OpCase> cases = {
      {"embedding", [](ModelBuilder&, ValueId x) { return x; }},
      {"add_multiply_scale",
       [](ModelBuilder& g, ValueId x) {
         const ValueId types = g.embedding("types", "types", g.token_type_ids(), {2, kWidth});
         return g.multiply(g.add(x, types), g.scale(inverse_sqrt_of(3), x));
       }},
      {"linear",
       [](ModelBuilder& g, ValueId x) { return g.linear("fc", "fc", x, 3, {.bias = true}); }},
      {"tied_linear",
       [](ModelBuilder& g, ValueId x) {
         return g.linear("head", "head", x, kVocabulary, {.tied_to = "words"});
       }},
      {"fused_linears",
       [](ModelBuilder& g, ValueId x) {
         const Packing first{.transposed = true, .part = 0, .parts = 2};
         const Packing second{.transposed = true, .part = 1, .parts = 2};
         const std::string name = "fused.weight";
         const std::string bias = "fused.bias";
         const ValueId a =
             g.linear("a", "a", x, 4,
                      {.bias = true, .packing = first, .weight_name = name, .bias_name = bias});
         const ValueId b =
             g.linear("b", "b", x, 4,
                      {.bias = true, .packing = second, .weight_name = name, .bias_name = bias});
         return g.multiply(a, b);
       }},
      {"interleaved_linears",
       [](ModelBuilder& g, ValueId x) {
         const Packing first{.part = 0, .parts = 2, .interleaved_heads = 2};
         const Packing second{.part = 1, .parts = 2, .interleaved_heads = 2};
         const ValueId a =
             g.linear("a", "a", x, 4, {.packing = first, .weight_name = "fused.weight"});
         const ValueId b =
             g.linear("b", "b", x, 4, {.packing = second, .weight_name = "fused.weight"});
         return g.multiply(a, b);
       }},
      {"layer_norm", [](ModelBuilder& g, ValueId x) { return g.layer_norm("n", "n", x, 1e-5); }},
      {"rms_norm", [](ModelBuilder& g, ValueId x) { return g.rms_norm("n", "n", x, 1e-6); }},
      {"bare_norm",
       [](ModelBuilder& g, ValueId x) {
         return g.norm("n", "n", x, {NormKind::kLayerNorm, 1e-5}, {.weight = false});
       }},
      {"head_norm",
       [](ModelBuilder& g, ValueId x) {
         return g.head_norm("n", "n", x, 4, {NormKind::kRmsNorm, 1e-6});
       }},
      {"soft_cap", [](ModelBuilder& g, ValueId x) { return g.soft_cap(0.7, x); }},
      {"mask_rows", [](ModelBuilder& g, ValueId x) { return g.mask_rows(x); }},
      {"affine_and_restore", affine_and_back},
      {"select_first", [](ModelBuilder& g, ValueId x) { return g.select_first(x); }},
      {"select_last", [](ModelBuilder& g, ValueId x) { return g.select_last(x, 4); }},
      {"select_eos",
       [](ModelBuilder& g, ValueId x) {
         return g.select_eos(x, {0, 1});
       }},
      {"select_column", [](ModelBuilder& g, ValueId x) { return g.select_column(x, 3); }},
      {"sequence_mean", [](ModelBuilder& g, ValueId x) { return g.node(op_sequence_mean, {x}); }},
      {"positions",
       [](ModelBuilder& g, ValueId x) {
         const ValueId ids = g.position_ids({PositionRule::kMaskCount, 2});
         return g.add(x, g.embedding("places", "places", ids, {8, kWidth}));
       }},
      {"attention", [](ModelBuilder& g, ValueId x) { return attend(g, two_heads(), x); }},
      {"attention_scaled_query",
       [](ModelBuilder& g, ValueId x) {
         AttentionRecipe recipe = two_heads();
         recipe.quantize_scaled_query = true;
         return attend(g, recipe, x);
       }},
      {"attention_window",
       [](ModelBuilder& g, ValueId x) {
         AttentionRecipe recipe = two_heads();
         recipe.causal = true;
         recipe.sliding_window = 2;
         recipe.soft_cap = 1.5;
         return attend(g, recipe, x);
       }},
      {"attention_alibi",
       [](ModelBuilder& g, ValueId x) {
         AttentionRecipe recipe = two_heads();
         recipe.causal = true;
         recipe.alibi = true;
         return attend(g, recipe, x);
       }},
      {"attention_bias",
       [](ModelBuilder& g, ValueId x) {
         const ValueId bias = g.relative_bias("bias", "bias", 2, {6, 8, true});
         return attend(g, two_heads(), x, {.bias = bias});
       }},
      {"attention_disentangled", attend_by_distance},
      {"attention_cross", cross},
      {"attention_queries", queries},
      {"prepend_token",
       [](ModelBuilder& g, ValueId) {
         const ValueId rows = g.patches({4, 1, 2});
         return g.prepend_token("class", "class", rows);
       }},
  };

  using Kind = RotaryRecipe::Kind;
  std::map<std::string, RotaryRecipe> recipes;
  recipes["plain"] = {.theta = 100, .head_dim = 4, .dim = 4};
  recipes["part"] = {.theta = 100, .head_dim = 4, .dim = 2};
  recipes["linear"] = {.kind = Kind::kLinear, .theta = 100, .head_dim = 4, .dim = 4, .factor = 2};
  recipes["llama3"] = {.kind = Kind::kLlama3,
                       .theta = 100,
                       .head_dim = 4,
                       .dim = 4,
                       .factor = 4,
                       .low_freq_factor = 1,
                       .high_freq_factor = 4,
                       .original_positions = 32};
  recipes["yarn"] = {.kind = Kind::kYarn,
                     .theta = 100,
                     .head_dim = 4,
                     .dim = 4,
                     .factor = 4,
                     .low = 0,
                     .high = 1.5,
                     .amplitude = 1.2};
  recipes["longrope"] = {.kind = Kind::kLongRope,
                         .theta = 100,
                         .head_dim = 4,
                         .dim = 4,
                         .amplitude = 1.1,
                         .factors = {1, 2.5}};
  recipes["proportional"] = {
      .kind = Kind::kProportional, .theta = 100, .head_dim = 4, .dim = 2, .factor = 2};
  for (const auto& [name, rotary] : recipes)
    cases.push_back({"rotary_" + name, [rotary = rotary](ModelBuilder& g, ValueId x) {
                       return rotated(g, x, rotary);
                     }});

  using Activation = ActivationKind;
  for (const Activation kind :
       {Activation::kRelu, Activation::kGelu, Activation::kGeluTanh, Activation::kSilu,
        Activation::kTanh, Activation::kRelu6, Activation::kHardSwish, Activation::kHardTanh,
        Activation::kSigmoid, Activation::kSign})
    cases.push_back({std::string(activation_name(kind)),
                     [kind](ModelBuilder& g, ValueId x) { return g.activation(kind, x); }});
  return cases;
}

bool reads_pixels(const OpCase& c) { return c.name == "prepend_token"; }
bool has_two_stacks(const OpCase& c) {
  return c.name == "attention_cross" || c.name == "attention_queries";
}

Model model_of(const OpCase& c) {
  ModelBuilder g;
  g.spec.model_type = c.name;
  g.spec.vocab_size = kVocabulary;
  g.spec.hidden_size = kWidth;
  g.spec.max_position_embeddings = 8;
  ValueId x = kNoValue;
  if (!has_two_stacks(c) && !reads_pixels(c)) {
    x = g.embedding("words", "words", g.token_ids(), {kVocabulary, kWidth});
    g.hidden_state(x);
  }
  g.output("out", c.build(g, x));
  return random_model({g.spec, g.take()});
}

TokenBatch batch_of(const OpCase& c) {
  if (!reads_pixels(c)) return small_batch(kVocabulary);
  TokenBatch batch;
  batch.batch = 2;
  batch.length = 5;
  batch.mask.assign(10, 1);
  for (int i = 0; i < 32; ++i) batch.pixels.push_back(std::sin(static_cast<float>(i)));
  return batch;
}

/// Of a loss that weighs every output differently.
double loss_of(const TorchModel& model, const TokenBatch& batch, torch::Tensor* kept = nullptr) {
  const torch::Tensor out = model.forward(batch).values.at("out");
  const torch::Tensor weights =
      torch::cos(torch::arange(out.numel(), torch::kFloat64) * 1.7).view(out.sizes());
  const torch::Tensor loss = (out * weights).sum();
  if (kept) *kept = loss;
  return loss.item<double>();
}

double difference(const TorchModel& model, const TokenBatch& batch, double* element) {
  const torch::NoGradGuard guard;
  constexpr double kStep = 1e-6;
  const double there = *element;
  *element = there + kStep;
  const double above = loss_of(model, batch);
  *element = there - kStep;
  const double below = loss_of(model, batch);
  *element = there;
  return (above - below) / (2 * kStep);
}

class TorchOps : public ::testing::TestWithParam<OpCase> {};

TEST_P(TorchOps, ValuesAreThoseOfTheFloatEngine) {
  const Model model = model_of(GetParam());
  const TokenBatch batch = batch_of(GetParam());
  ExecContext ctx(1);
  ForwardOutputs outputs;
  make_float_model(model)->forward(batch, outputs, ctx);
  const Tensor& want = outputs.values.at("out");

  const torch::NoGradGuard guard;
  const torch::Tensor got = TorchModel(model).forward(batch).values.at("out").contiguous();
  ASSERT_EQ(got.sizes().vec(), want.shape().dims());
  for (std::int64_t i = 0; i < got.numel(); ++i)
    EXPECT_NEAR(got.data_ptr<float>()[i], want.f32()[static_cast<std::size_t>(i)], 2e-6) << i;
}

TEST_P(TorchOps, GradientsAreFiniteDifferences) {
  const Model model = model_of(GetParam());
  const TokenBatch batch = batch_of(GetParam());
  const TorchModel trained(model, torch::kFloat64);
  torch::Tensor loss;
  loss_of(trained, batch, &loss);
  ASSERT_FALSE(trained.parameters().trained().empty());
  loss.backward();

  for (const TorchParameter& p : trained.parameters().trained()) {
    ASSERT_TRUE(p.tensor.grad().defined()) << p.name;
    const torch::Tensor gradient = p.tensor.grad().contiguous();
    for (std::int64_t i = 0; i < p.tensor.numel(); ++i) {
      const double got = gradient.data_ptr<double>()[i];
      const double want = difference(trained, batch, p.tensor.data_ptr<double>() + i);
      EXPECT_NEAR(got, want, 1e-7 * (1 + std::abs(want))) << p.name << " " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, TorchOps, ::testing::ValuesIn(op_cases()),
                         [](const auto& info) { return info.param.name; });

TEST(TorchOpsFolder, EveryOpHasACaseHere) {
  // Quantizers compute nothing of their own (torch_model_test.cpp).
  std::set<std::string_view> seen = {op_quantize.name, op_quantize_weight.name};
  for (const OpCase& c : op_cases()) {
    const Model model = model_of(c);
    for (const Node& node : model.graph.nodes()) seen.insert(node.op->name);
  }
  for (const TorchOp* op : all_of(static_cast<const TorchOp*>(nullptr)))
    EXPECT_TRUE(seen.contains(op->op->name)) << op->op->name;
}

}  // namespace
}  // namespace quell::train
