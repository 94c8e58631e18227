// GPT-2 (Radford et al. 2019): pre-norm decoder with learned positions; linears are stored
// transposed (Conv1D), q, k and v in one.
#include "quell/model/family.h"

namespace quell {
namespace {

constexpr KeyRule kKeys[] = {
    {"n_ctx"},                    // n_positions is what counts
    {"reorder_and_upcast_attn"},  // the same function in f32
};

ModelSpec read_spec(const Settings& file) {
  const Settings config = file.with_aliases({{"hidden_size", "n_embd"},
                                             {"max_position_embeddings", "n_positions"},
                                             {"num_attention_heads", "n_head"},
                                             {"num_hidden_layers", "n_layer"}});
  ModelSpec s;
  s.vocab_size = read_int(config, "vocab_size", 1, kMaxDim, 50257);
  s.hidden_size = read_int(config, "hidden_size", 1, kMaxDim, 768);
  s.intermediate_size =
      read_optional_int(config, "n_inner", 1, kMaxDim).value_or(4 * s.hidden_size);
  s.max_position_embeddings = read_int(config, "max_position_embeddings", 1, kMaxDim, 1024);
  s.norm_eps = read_number(config, "layer_norm_epsilon", 1e-5);
  s.position_rule = PositionRule::kMaskCount;
  read_special_ids(config, s, std::nullopt, 50256);

  AttentionSpec attention = read_attention(config, s.hidden_size, 12);
  attention.causal = true;
  if (!read_bool(config, "scale_attn_weights", true)) attention.scale = 1.0F;

  Stack stack;
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden),
                    embedding(Slot::kPositionEmbedding, Value::kEmbedded),
                    add_values(Value::kHidden, Value::kEmbedded, Value::kHidden)};
  stack.block = pre_norm_block(
      mlp_steps(read_activation(config, "activation_function", "gelu_new"), Value::kNormed));
  stack.epilogue = {norm(Slot::kFinalNorm, Value::kHidden, Value::kHidden)};
  stack.layers = plain_layers(read_int(config, "num_hidden_layers", 1, kMaxLayers, 12), attention);
  if (read_bool(config, "scale_attn_by_inverse_layer_idx", false))
    for (std::size_t i = 0; i < stack.layers.size(); ++i)
      stack.layers[i].attention.scale /= static_cast<float>(i + 1);
  s.stacks.push_back(std::move(stack));
  set_decoder_head(s, config, "GPT2", "GPT2LMHeadModel");
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const std::int64_t h = s.hidden_size, f = s.intermediate_size;
  const std::string t = "transformer.", l = t + "h.{}.";
  const auto part = [](int i) { return Packing{.transposed = true, .part = i, .parts = 3}; };
  const Packing transposed{.transposed = true};
  std::vector<TensorRule> rules = {
      {Slot::kWordEmbedding, false, t + "wte", {s.vocab_size, h}},
      {Slot::kPositionEmbedding, false, t + "wpe", {s.max_position_embeddings, h}},
      {Slot::kAttentionNorm, true, l + "ln_1", {h}, true, true},
      TensorRule{Slot::kQProj, true, l + "attn.c_attn", {h, h}, true, true}.packed(part(0)),
      TensorRule{Slot::kKProj, true, l + "attn.c_attn", {h, h}, true, true}.packed(part(1)),
      TensorRule{Slot::kVProj, true, l + "attn.c_attn", {h, h}, true, true}.packed(part(2)),
      TensorRule{Slot::kOutProj, true, l + "attn.c_proj", {h, h}, true, true}.packed(transposed),
      {Slot::kFfnNorm, true, l + "ln_2", {h}, true, true},
      TensorRule{Slot::kFc1, true, l + "mlp.c_fc", {f, h}, true, true}.packed(transposed),
      TensorRule{Slot::kFc2, true, l + "mlp.c_proj", {h, f}, true, true}.packed(transposed),
      {Slot::kFinalNorm, false, t + "ln_f", {h}, true, true}};
  add_decoder_head(rules, s, config, true);
  return rules;
}

}  // namespace

extern const Family k_gpt2;
const Family k_gpt2 = {"gpt2",
                       "transformer.",
                       read_spec,
                       tensors,
                       "GPT-2: transposed linears, fused q/k/v",
                       "GPT2Model GPT2LMHeadModel GPT2ForSequenceClassification",
                       kKeys};

}  // namespace quell
