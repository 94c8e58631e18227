// Vision Transformer (Dosovitskiy et al. 2021): a convolution whose stride is its kernel makes
// patches of an image into tokens; a class token in front; pre-norm encoder.
#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/model/blocks.h"
#include "quell/model/family.h"

namespace quell {
namespace {

constexpr KeyRule kKeys[] = {
    // Of heads that are not supported.
    {"encoder_stride"},
    {"pooler_act"},
    {"pooler_output_size"},
};

/// A square's side, or twice the same number in a list.
std::int64_t read_side(const Config& config, const char* key, std::int64_t high,
                       std::int64_t fallback) {
  const Json& sides = config.value(key);
  if (!sides.is_array()) return read_int(config, key, 1, high, fallback);

  require(sides.size() == 2 && sides[0] == sides[1], ErrorCode::kUnsupported, "key \"", key,
          "\": only squares are supported");
  const Json side = {{key, sides[0]}};
  return json_int(side, key, 1, high);
}

void build(ModelBuilder& g, const Config& c) {
  const std::string name = architecture_of(c);
  if (!name.empty() && name != "ViTForImageClassification") refuse_architecture(name, "vit");

  ModelSpec& s = g.spec;
  s.hidden_size = read_int(c, "hidden_size", 1, kMaxDim, 768);
  s.intermediate_size = read_int(c, "intermediate_size", 1, kMaxDim, 3072);
  PatchAttributes image;
  image.image_size = read_side(c, "image_size", 1 << 14, 224);
  image.patch_size = read_side(c, "patch_size", image.image_size, 16);
  image.num_channels = read_int(c, "num_channels", 1, 1 << 10, 3);
  require(image.image_size % image.patch_size == 0, ErrorCode::kInvalidInput,
          "key \"patch_size\": does not divide image_size");
  s.max_position_embeddings = image.num_patches() + 1;  // and the class token
  const double eps = read_number(c, "layer_norm_eps", 1e-12);
  const ActivationKind act = read_activation(c, "hidden_act", "gelu");
  const std::int64_t num_layers = read_num_layers(c, 12);
  const AttentionRecipe attention = read_attention(c, s.hidden_size, 12);
  const AttentionModules modules{.query = "attention.attention.query",
                                 .key = "attention.attention.key",
                                 .value = "attention.attention.value",
                                 .out = "attention.output.dense",
                                 .qkv_bias = read_bool(c, "qkv_bias", true)};

  const std::string e = "vit.embeddings.";
  const std::string projection = e + "patch_embeddings.projection";
  ValueId h = g.linear("patch_proj", projection, g.patches(image), s.hidden_size,
                       {.bias = true, .weight_name = projection + ".weight", .any_rank = true});
  h = g.prepend_token("class_token", e + "cls_token", h,
                      {.weight_name = e + "cls_token", .any_rank = true});
  const ValueId places = g.embedding("position_embeddings", e + "position_embeddings",
                                     g.position_ids({}), {s.max_position_embeddings, s.hidden_size},
                                     {.weight_name = e + "position_embeddings", .any_rank = true});
  h = g.add(h, places);
  g.hidden_state(h);
  for (std::int64_t l = 0; l < num_layers; ++l) {
    const auto layer = g.layer("vit.encoder.layer", l);
    const ValueId x = g.layer_norm("attention_norm", "layernorm_before", h, eps);
    h = g.add(h, self_attention(g, attention, x, modules));

    const ValueId y = g.layer_norm("ffn_norm", "layernorm_after", h, eps);
    h = g.add(h, mlp(g, act, y, s.intermediate_size,
                     {.fc1 = "intermediate.dense", .fc2 = "output.dense"}));
    g.hidden_state(h);
  }
  h = g.layer_norm("final_norm", "vit.layernorm", h, eps);
  g.output("last_hidden_state", h);

  g.begin_head();
  s.head = Head::kImageClassification;
  g.output("logits", g.linear("classifier", "classifier", g.select_first(h), num_labels(c),
                              {.bias = true, .role = Role::kClassifier}));
}

}  // namespace

extern const Family k_vit;
const Family k_vit = {"vit", "vit.", build, "ViT: patches of images", "ViTForImageClassification",
                      kKeys};

}  // namespace quell
