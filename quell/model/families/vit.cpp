// Vision Transformer (Dosovitskiy et al. 2021): a convolution whose stride is its kernel makes
// patches of an image into tokens; a class token in front; pre-norm encoder.
#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/model/family.h"

namespace quell {
namespace {

std::int64_t num_tokens(const ModelSpec& s) {
  const std::int64_t side = s.image_size / s.patch_size;
  return side * side + 1;
}

constexpr KeyRule kKeys[] = {
    // Of heads that are not supported.
    {"encoder_stride"},
    {"pooler_act"},
    {"pooler_output_size"},
};

/// A square's side, or twice the same number in a list.
std::int64_t read_side(const Settings& config, const char* key, std::int64_t high,
                       std::int64_t fallback) {
  const Json& sides = config.value(key);
  if (!sides.is_array()) return read_int(config, key, 1, high, fallback);

  require(sides.size() == 2 && sides[0] == sides[1], ErrorCode::kUnsupported, "key \"", key,
          "\": only squares are supported");
  const Json side = {{key, sides[0]}};
  return json_int(side, key, 1, high);
}

ModelSpec read_spec(const Settings& config) {
  const std::string name = architecture_of(config);
  require(name.empty() || name == "ViTForImageClassification", ErrorCode::kUnsupported,
          "architecture \"", name, "\" is not supported for vit");
  ModelSpec s;
  s.hidden_size = read_int(config, "hidden_size", 1, kMaxDim, 768);
  s.intermediate_size = read_int(config, "intermediate_size", 1, kMaxDim, 3072);
  s.image_size = read_side(config, "image_size", 1 << 14, 224);
  s.patch_size = read_side(config, "patch_size", s.image_size, 16);
  s.num_channels = read_int(config, "num_channels", 1, 1 << 10, 3);
  require(s.image_size % s.patch_size == 0, ErrorCode::kInvalidInput,
          "key \"patch_size\": does not divide image_size");
  s.max_position_embeddings = num_tokens(s);
  s.norm_eps = read_number(config, "layer_norm_eps", 1e-12);

  Stack stack;
  stack.prologue = {{.kind = StepKind::kPatches, .out = Value::kHidden},
                    linear(Slot::kPatchProj, Value::kHidden, Value::kHidden),
                    {.kind = StepKind::kPrependToken,
                     .slot = Slot::kClassToken,
                     .in = {Value::kHidden},
                     .out = Value::kHidden},
                    embedding(Slot::kPositionEmbedding, Value::kEmbedded),
                    add_values(Value::kHidden, Value::kEmbedded, Value::kHidden)};
  stack.block =
      pre_norm_block(mlp_steps(read_activation(config, "hidden_act", "gelu"), Value::kNormed));
  stack.epilogue = {norm(Slot::kFinalNorm, Value::kHidden, Value::kHidden)};
  stack.last_hidden_before_epilogue = true;
  stack.layers = plain_layers(read_int(config, "num_hidden_layers", 1, kMaxLayers, 12),
                              read_attention(config, s.hidden_size, 12));
  s.stacks.push_back(std::move(stack));

  s.head = Head::kImageClassification;
  s.head_steps = {simple_step(StepKind::kSelectFirst, Value::kHidden, Value::kPooled),
                  linear(Slot::kClassifier, Value::kPooled, Value::kLogits)};
  s.outputs = {{"last_hidden_state", Value::kHidden}, {"logits", Value::kLogits}};
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const std::int64_t h = s.hidden_size, f = s.intermediate_size;
  const bool bias = read_bool(config, "qkv_bias", true);
  const std::string e = "vit.embeddings.", l = "vit.encoder.layer.{}.",
                    a = l + "attention.attention.";
  const std::string patch = e + "patch_embeddings.projection";
  return {TensorRule{Slot::kPatchProj,
                     false,
                     patch,
                     {h, s.num_channels * s.patch_size * s.patch_size},
                     true,
                     true}
              .stored_as(patch + ".weight"),
          TensorRule{Slot::kClassToken, false, e + "cls_token", {h}}.stored_as(e + "cls_token"),
          TensorRule{Slot::kPositionEmbedding, false, e + "position_embeddings", {num_tokens(s), h}}
              .stored_as(e + "position_embeddings"),
          {Slot::kAttentionNorm, true, l + "layernorm_before", {h}, true, true},
          {Slot::kQProj, true, a + "query", {h, h}, true, bias},
          {Slot::kKProj, true, a + "key", {h, h}, true, bias},
          {Slot::kVProj, true, a + "value", {h, h}, true, bias},
          {Slot::kOutProj, true, l + "attention.output.dense", {h, h}, true, true},
          {Slot::kFfnNorm, true, l + "layernorm_after", {h}, true, true},
          {Slot::kFc1, true, l + "intermediate.dense", {f, h}, true, true},
          {Slot::kFc2, true, l + "output.dense", {h, f}, true, true},
          {Slot::kFinalNorm, false, "vit.layernorm", {h}, true, true},
          {Slot::kClassifier, false, "classifier", {num_labels(config), h}, true, true}};
}

}  // namespace

extern const Family k_vit;
const Family k_vit = {
    "vit", "vit.", read_spec, tensors, "ViT: patches of images", "ViTForImageClassification",
    kKeys};

}  // namespace quell
