// OPT (Zhang et al. 2022): pre-norm decoder with learned positions; OPT-350m is post-norm with
// projections around a narrower embedding.
#include "quell/model/family.h"

namespace quell {
namespace {

constexpr std::int32_t kPositionOffset = 2;  // rows 0 and 1 of the position table are not used

bool pre_norm(const Settings& config) { return read_bool(config, "do_layer_norm_before", true); }
bool final_norm(const Settings& config) {
  const bool removed = read_bool(config, "_remove_final_layer_norm", false);
  return pre_norm(config) && !removed;
}
std::int64_t embedding_size(const ModelSpec& s, const Settings& config) {
  return read_optional_int(config, "word_embed_proj_dim", 1, kMaxDim).value_or(s.hidden_size);
}

ModelSpec read_spec(const Settings& config) {
  ModelSpec s;
  s.vocab_size = read_int(config, "vocab_size", 1, kMaxDim, 50272);
  s.hidden_size = read_int(config, "hidden_size", 1, kMaxDim, 768);
  s.intermediate_size = read_int(config, "ffn_dim", 1, kMaxDim, 3072);
  s.max_position_embeddings = read_int(config, "max_position_embeddings", 1, kMaxDim, 2048);
  read_special_ids(config, s, 1, 2);
  s.position_rule = PositionRule::kMaskCount;
  s.position_offset = kPositionOffset;

  AttentionSpec attention = read_attention(config, s.hidden_size, 12);
  attention.causal = true;
  attention.quantize_scaled_query = true;

  Stack stack;
  const bool projected = embedding_size(s, config) != s.hidden_size;
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden)};
  if (projected) stack.prologue.push_back(linear(Slot::kProjectIn, Value::kHidden, Value::kHidden));
  stack.prologue.push_back(embedding(Slot::kPositionEmbedding, Value::kEmbedded));
  stack.prologue.push_back(add_values(Value::kHidden, Value::kEmbedded, Value::kHidden));
  const ActivationKind act = read_activation(config, "activation_function", "relu");
  stack.block = pre_norm(config) ? pre_norm_block(mlp_steps(act, Value::kNormed))
                                 : post_norm_block(mlp_steps(act, Value::kHidden));
  if (final_norm(config))
    stack.epilogue.push_back(norm(Slot::kFinalNorm, Value::kHidden, Value::kHidden));
  if (projected)
    stack.epilogue.push_back(linear(Slot::kProjectOut, Value::kHidden, Value::kHidden));
  stack.layers = plain_layers(read_int(config, "num_hidden_layers", 1, kMaxLayers, 12), attention);
  s.stacks.push_back(std::move(stack));

  set_decoder_head(s, config, "OPT");
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const std::int64_t h = s.hidden_size, f = s.intermediate_size, e = embedding_size(s, config);
  const bool bias = read_bool(config, "enable_bias", true),
             affine = read_bool(config, "layer_norm_elementwise_affine", true);
  const std::string d = "model.decoder.", l = d + "layers.{}.";
  std::vector<TensorRule> rules = {
      {Slot::kWordEmbedding, false, d + "embed_tokens", {s.vocab_size, e}},
      {Slot::kPositionEmbedding,
       false,
       d + "embed_positions",
       {s.max_position_embeddings + kPositionOffset, h}},
      {Slot::kQProj, true, l + "self_attn.q_proj", {h, h}, true, bias},
      {Slot::kKProj, true, l + "self_attn.k_proj", {h, h}, true, bias},
      {Slot::kVProj, true, l + "self_attn.v_proj", {h, h}, true, bias},
      {Slot::kOutProj, true, l + "self_attn.out_proj", {h, h}, true, bias},
      {Slot::kAttentionNorm, true, l + "self_attn_layer_norm", {h}, affine, affine},
      {Slot::kFc1, true, l + "fc1", {f, h}, true, bias},
      {Slot::kFc2, true, l + "fc2", {h, f}, true, bias},
      {Slot::kFfnNorm, true, l + "final_layer_norm", {h}, affine, affine}};
  add_decoder_head(rules, s, config, true);
  rules.back().shape = {rules.back().shape[0], e};  // reads what project_out leaves
  if (e != h) {
    rules.push_back({Slot::kProjectIn, false, d + "project_in", {h, e}});
    rules.push_back({Slot::kProjectOut, false, d + "project_out", {e, h}});
  }
  if (final_norm(config))
    rules.push_back({Slot::kFinalNorm, false, d + "final_layer_norm", {h}, affine, affine});
  return rules;
}

}  // namespace

extern const Family k_opt;
const Family k_opt = {"opt",
                      "model.",
                      read_spec,
                      tensors,
                      "OPT, Galactica: learned positions; the 350m post-norm variant",
                      "OPTModel OPTForCausalLM OPTForSequenceClassification"};

}  // namespace quell
