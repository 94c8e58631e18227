// LSTR (Liu et al. 2021), a lane detector: a small ResNet, and a transformer whose decoder turns
// learned queries into curves, as DETR's turns them into boxes. Its settings are its own LSTR.json.
#include "quell/base/error.h"
#include "quell/graph/image_ops.h"
#include "quell/io/json.h"
#include "quell/model/residual_network.h"

namespace quell {
namespace {

constexpr KeyRule kKeys[] = {
    // Of training, and of its data.
    {"system.dataset"},       {"system.batch_size"},
    {"system.chunk_sizes"},   {"system.sampling_function"},
    {"system.*_split"},       {"system.learning_rate"},
    {"system.decay_rate"},    {"system.val_iter"},
    {"system.display"},       {"system.opt_algo"},
    {"system.prefetch_size"}, {"system.max_iter"},
    {"system.stepsize"},      {"system.snapshot"},
    {"system.*_dir"},         {"db.rand_color"},
    {"db.test_scales"},       {"db.max_lanes"},
};

struct Sizes {
  std::int64_t dim = 0;
  std::int64_t feed_forward = 0;
  std::int64_t encoder_layers = 0;
  std::int64_t decoder_layers = 0;
  std::int64_t queries = 0;
  std::int64_t curve = 0;  ///< numbers that say one
  std::int64_t classes = 0;
  ImageSize image = {};
  ResidualSizes backbone = {};
  std::vector<std::int64_t> strides = {};
};

Sizes read_sizes(const ModelBuilder& g, const Config& c) {
  const Settings system = c.section("system");
  const Settings db = c.section("db");
  Sizes s;
  s.dim = json_int(system, "attn_dim", 4, kMaxDim);
  s.feed_forward = json_int(system, "dim_feedforward", 1, kMaxDim);
  s.encoder_layers = json_int(system, "enc_layers", 1, kMaxLayers);
  s.decoder_layers = json_int(system, "dec_layers", 1, kMaxLayers);
  s.queries = json_int(system, "num_queries", 1, 1 << 16);
  s.curve = json_int(system, "kps_dim", 8, 8);
  const std::string block = json_string(system, "block", "BasicBlock");
  require(block == "BasicBlock", ErrorCode::kUnsupported, "key \"system.block\": \"", block,
          "\" is not supported");

  constexpr std::size_t kStages = 4;
  s.backbone.channels = read_int_list(system, "res_dims", kStages, 1, kMaxDim);
  s.backbone.depths = read_int_list(system, "res_layers", kStages, 1, kMaxLayers);
  s.strides = read_int_list(system, "res_strides", kStages, 1, 8);
  s.backbone.stem = s.backbone.channels.front();
  const std::vector<std::int64_t> input = read_int_list(db, "input_size", 2, 1, kMaxInputSide);
  s.image = {input[0], input[1]};

  // Checkpoints for other data have more classes than their categories and the background.
  s.classes = json_int(db, "categories", 1, kMaxDim, 1) + 1;
  const std::optional<Shape> stored = g.stored_shape("class_embed.weight");
  if (stored && stored->rank() == 2) s.classes = (*stored)[0];
  return s;
}

/// One image in front of the transformer.
ValueId backbone(ModelBuilder& g, const Sizes& s) {
  const ResidualNames names{.hugging_face = false};
  ValueId h = residual_stem(g, s.backbone, names, g.image({.channels = 3, .size = s.image}));
  for (std::size_t stage = 0; stage < s.strides.size(); ++stage)
    for (std::int64_t i = 0; i < s.backbone.depths[stage]; ++i) {
      const std::string block = names.block(stage, i);
      const auto scope = g.scope(block);
      const std::int64_t stride = i == 0 ? s.strides[stage] : 1;
      h = residual_block(g, s.backbone, names, {s.backbone.channels[stage], stride}, h,
                         block + ".");
    }
  return h;
}

/// What an attention reads: positions go into queries and keys, not into values.
struct Operands {
  ValueId query = kNoValue;
  ValueId key = kNoValue;
  ValueId value = kNoValue;
};

/// q, k and v lie in one tensor, in_proj_weight of `module`, a full name.
ValueId attend(ModelBuilder& g, const AttentionRecipe& recipe, const std::string& module,
               const std::string& label, const Operands& in) {
  const auto absolute = g.absolute();
  const std::int64_t dim = g.columns(in.value);
  const auto project = [&](const char* name, ValueId x, int part) {
    return g.linear(label + name, module + ".in_proj", x, dim,
                    {.bias = true,
                     .packing = {.part = part, .parts = 3},
                     .weight_name = module + ".in_proj_weight",
                     .bias_name = module + ".in_proj_bias"});
  };
  const ValueId q = project("q_proj", in.query, 0);
  const ValueId k = project("k_proj", in.key, 1);
  const ValueId v = project("v_proj", in.value, 2);
  const ValueId context = g.attention(recipe, q, k, v);
  return g.linear(label + "out_proj", module + ".out_proj", context, dim, {.bias = true});
}

constexpr double kNormEps = 1e-5;

ValueId feed_forward(ModelBuilder& g, const Sizes& s, ValueId x) {
  const ValueId wide = g.linear("fc1", "linear1", x, s.feed_forward, {.bias = true});
  return g.linear("fc2", "linear2", g.activation(ActivationKind::kRelu, wide), s.dim,
                  {.bias = true});
}

ValueId encoder_layer(ModelBuilder& g, const Sizes& s, const AttentionRecipe& recipe,
                      const std::string& module, ValueId x, ValueId positions) {
  const ValueId placed = g.add(x, positions);
  const ValueId attended = attend(g, recipe, module + ".self_attn", "", {placed, placed, x});
  ValueId h = g.layer_norm("attention_norm", "norm1", g.add(x, attended), kNormEps);
  const ValueId more = feed_forward(g, s, h);
  return g.layer_norm("ffn_norm", "norm2", g.add(h, more), kNormEps);
}

/// The encoder's result, plain and with positions.
struct Memory {
  ValueId value = kNoValue;
  ValueId placed = kNoValue;
};

ValueId decoder_layer(ModelBuilder& g, const Sizes& s, const AttentionRecipe& recipe,
                      const std::string& module, ValueId x, ValueId queries, const Memory& memory) {
  AttentionRecipe cross = recipe;
  cross.cross = true;
  ValueId placed = g.add(x, queries);
  const ValueId own = attend(g, recipe, module + ".self_attn", "", {placed, placed, x});
  ValueId h = g.layer_norm("attention_norm", "norm1", g.add(x, own), kNormEps);

  placed = g.add(h, queries);
  const ValueId seen =
      attend(g, cross, module + ".multihead_attn", "cross_", {placed, memory.placed, memory.value});
  h = g.layer_norm("cross_norm", "norm2", g.add(h, seen), kNormEps);
  const ValueId more = feed_forward(g, s, h);
  return g.layer_norm("ffn_norm", "norm3", g.add(h, more), kNormEps);
}

Memory encode(ModelBuilder& g, const Sizes& s, const AttentionRecipe& recipe) {
  const auto encoder = g.encoder("");
  const ValueId map = backbone(g, s);
  const ValueId projected =
      g.conv2d("input_proj", "input_proj", map, s.dim, square_conv(1), {.bias = true});
  const ValueId waves = g.node(op_sine_positions, {projected}, Attributes::of(s.dim));
  const ValueId positions = g.named(op_pixel_tokens, "positions", {waves});
  g.spec.max_position_embeddings = image_size(g.graph().value(map).type.rows, "map").pixels();

  ValueId h = g.named(op_pixel_tokens, "pixels", {projected});
  g.hidden_state(h);
  for (std::int64_t l = 0; l < s.encoder_layers; ++l) {
    const std::string module = "transformer.encoder.layers." + std::to_string(l);
    const auto layer = g.layer(l, module);
    h = encoder_layer(g, s, recipe, module, h, positions);
    g.hidden_state(h);
  }
  return {h, g.named(op_add, "memory", {h, positions})};
}

ValueId decode(ModelBuilder& g, const Sizes& s, const AttentionRecipe& recipe,
               const Memory& memory) {
  const ValueId queries =
      g.node_with(op_learned_queries, "query_embed", "query_embed", {}, {s.queries, s.dim}, {}, {});
  ValueId h = g.scale(Factor{0}, queries);  // what there is before the first layer
  g.hidden_state(h);
  for (std::int64_t l = 0; l < s.decoder_layers; ++l) {
    const std::string module = "transformer.decoder.layers." + std::to_string(l);
    const auto layer = g.layer(l, module);
    h = decoder_layer(g, s, recipe, module, h, queries, memory);
    g.hidden_state(h);
  }
  return g.layer_norm("final_norm", "transformer.decoder.norm", h, kNormEps);
}

/// Three linears with ReLU between.
ValueId curve_head(ModelBuilder& g, const Sizes& s, const std::string& module, ValueId x) {
  for (int i = 0; i < 2; ++i) {
    const std::string number = std::to_string(i);
    x = g.linear(module + "." + number, module + ".layers." + number, x, s.dim, {.bias = true});
    x = g.activation(ActivationKind::kRelu, x);
  }
  return g.linear(module + ".2", module + ".layers.2", x, s.curve / 2, {.bias = true});
}

void build(ModelBuilder& g, const Config& c) {
  const Sizes s = read_sizes(g, c);
  g.spec.hidden_size = s.dim;
  g.spec.intermediate_size = s.feed_forward;
  g.spec.num_queries = s.queries;
  AttentionRecipe recipe;
  recipe.num_heads = recipe.num_kv_heads = json_int(c.section("system"), "num_heads", 1, kMaxHeads);
  require(s.dim % recipe.num_heads == 0, ErrorCode::kInvalidInput,
          "key \"system.num_heads\": does not divide attn_dim");
  recipe.head_dim = s.dim / recipe.num_heads;
  recipe.scale = inverse_sqrt_of(static_cast<double>(recipe.head_dim));

  const Memory memory = encode(g, s, recipe);
  const auto decoder = g.decoder("");
  const ValueId h = decode(g, s, recipe, memory);
  g.output("last_hidden_state", h);
  g.begin_head();
  g.output("pred_logits", g.linear("class_embed", "class_embed", h, s.classes,
                                   {.bias = true, .role = Role::kClassifier}));

  // Two numbers of a lane's own, four that all lanes of an image share, and two of its own.
  const ValueId own = curve_head(g, s, "specific_embed", h);
  const ValueId shared = g.node(op_sequence_mean, {curve_head(g, s, "shared_embed", h)});
  std::vector<ValueId> columns;
  for (std::int64_t i = 0; i < s.curve / 2; ++i) columns.push_back(g.select_column(own, i));
  columns.insert(columns.begin() + 2, shared);
  g.output("pred_curves", g.node(op_concatenate, columns));
}

}  // namespace

extern const Family k_lstr;
const Family k_lstr = {.model_type = "lstr",
                       .prefix = "",
                       .build = build,
                       .description = "LSTR: lanes of a road as curves; settings in LSTR.json",
                       .architectures = "",
                       .keys = kKeys,
                       .reads_is_causal = false};

}  // namespace quell
