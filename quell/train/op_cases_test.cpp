// Small graphs of ops of tokens, and the models and batches of all.
#include "quell/train/op_cases.h"

#include "quell/graph/image_ops.h"

namespace quell::train {
namespace {

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

}  // namespace

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
      {"attention_cross", cross, Reads::kTwoStacks},
      {"attention_queries", queries, Reads::kTwoStacks},
      {"prepend_token",
       [](ModelBuilder& g, ValueId) {
         return g.prepend_token("class", "class", g.patches({4, 1, 2}));
       },
       Reads::kPatches},
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

  for (OpCase& c : image_op_cases()) cases.push_back(std::move(c));

  using Activation = ActivationKind;
  for (const Activation kind :
       {Activation::kRelu, Activation::kGelu, Activation::kGeluTanh, Activation::kSilu,
        Activation::kTanh, Activation::kRelu6, Activation::kHardSwish, Activation::kHardTanh,
        Activation::kSigmoid, Activation::kSign, Activation::kRelu2})
    cases.push_back({std::string(activation_name(kind)),
                     [kind](ModelBuilder& g, ValueId x) { return g.activation(kind, x); }});
  return cases;
}

Model model_of(const OpCase& c) {
  ModelBuilder g;
  g.spec.model_type = c.name;
  g.spec.vocab_size = kVocabulary;
  g.spec.hidden_size = kWidth;
  g.spec.max_position_embeddings = c.reads == Reads::kImages ? 20 : 8;
  ValueId x = kNoValue;
  if (c.reads == Reads::kTokens) {
    x = g.embedding("words", "words", g.token_ids(), {kVocabulary, kWidth});
    g.hidden_state(x);
  } else if (c.reads == Reads::kImages) {
    x = g.conv2d("stem", "stem", g.image({3, {5, 4}}), 4, {}, {.bias = true});
  }
  g.output("out", c.build(g, x));
  return random_model({g.spec, g.take()});
}

TokenBatch batch_of(const OpCase& c) {
  if (c.reads == Reads::kTokens || c.reads == Reads::kTwoStacks) return small_batch(kVocabulary);
  TokenBatch batch;
  batch.batch = 2;
  batch.length = c.reads == Reads::kImages ? 20 : 5;
  batch.mask.assign(static_cast<std::size_t>(batch.rows()), 1);
  const int pixels = c.reads == Reads::kImages ? 2 * 3 * 20 : 32;
  for (int i = 0; i < pixels; ++i) batch.pixels.push_back(std::sin(1.3F * static_cast<float>(i)));
  return batch;
}

}  // namespace quell::train
