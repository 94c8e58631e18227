// BLOOM (BigScience 2022): pre-norm decoder with ALiBi instead of positions, a norm behind the
// embedding, and q, k and v of each head side by side in one matrix.
#include "quell/io/json.h"
#include "quell/model/family.h"
#include "quell/model/relative_positions.h"

namespace quell {
namespace {

constexpr KeyRule kKeys[] = {
    // ALiBi knows no limit; the rest are ways to compute the same.
    {"seq_length"},
    {"slow_but_exact"},
    {"offset_alibi"},
    {"skip_bias_add"},
    {"skip_bias_add_qkv"},
    {"attention_softmax_in_fp32"},
    {"masked_softmax_fusion"},
    {"bias_dropout_fusion"},
    {"apply_residual_connection_post_layernorm", KeyRule::Effect::kChangesResults, "[false]",
     "residuals behind the norm"},
};

ModelSpec read_spec(const Settings& file) {
  const Settings config =
      file.with_aliases({{"num_attention_heads", "n_head"}, {"num_hidden_layers", "n_layer"}});
  ModelSpec s;
  s.vocab_size = read_int(config, "vocab_size", 1, kMaxDim, 250880);
  s.hidden_size = read_int(config, "hidden_size", 1, kMaxDim, 64);
  s.hidden_size = read_optional_int(config, "n_embed", 1, kMaxDim).value_or(s.hidden_size);
  s.intermediate_size = 4 * s.hidden_size;
  s.max_position_embeddings = std::int64_t{1} << 31;  // ALiBi knows no limit
  s.norm_eps = read_number(config, "layer_norm_epsilon", 1e-5);
  s.position_rule = PositionRule::kMaskCount;
  read_special_ids(config, s, std::nullopt, 2);

  // With both, the reference adds up parts of the products and leaves their biases out.
  if (config.json().value("slow_but_exact", Json()) == true &&
      read_int(config, "pretraining_tp", 1, kMaxDim, 1) > 1)
    config.refuse("slow_but_exact", "products in parts, without their biases, are not supported");

  AttentionSpec attention = read_attention(config, s.hidden_size, 8);
  attention.causal = true;
  attention.alibi_slopes = alibi_slopes(attention.num_heads);

  Stack stack;
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden),
                    norm(Slot::kEmbeddingNorm, Value::kHidden, Value::kHidden)};
  stack.block = pre_norm_block(mlp_steps(ActivationKind::kGeluTanh, Value::kNormed));
  stack.epilogue = {norm(Slot::kFinalNorm, Value::kHidden, Value::kHidden)};
  stack.layers = plain_layers(read_int(config, "num_hidden_layers", 1, kMaxLayers, 2), attention);
  s.stacks.push_back(std::move(stack));
  set_decoder_head(s, config, "Bloom");
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const std::int64_t h = s.hidden_size, f = s.intermediate_size,
                     heads = s.stacks[0].layers[0].attention.num_heads;
  const std::string t = "transformer.", l = t + "h.{}.", qkv = l + "self_attention.query_key_value";
  const auto part = [&](int i) {
    return Packing{.part = i, .parts = 3, .interleaved_heads = heads};
  };
  std::vector<TensorRule> rules = {
      {Slot::kWordEmbedding, false, t + "word_embeddings", {s.vocab_size, h}},
      {Slot::kEmbeddingNorm, false, t + "word_embeddings_layernorm", {h}, true, true},
      {Slot::kAttentionNorm, true, l + "input_layernorm", {h}, true, true},
      TensorRule{Slot::kQProj, true, qkv, {h, h}, true, true}.packed(part(0)),
      TensorRule{Slot::kKProj, true, qkv, {h, h}, true, true}.packed(part(1)),
      TensorRule{Slot::kVProj, true, qkv, {h, h}, true, true}.packed(part(2)),
      {Slot::kOutProj, true, l + "self_attention.dense", {h, h}, true, true},
      {Slot::kFfnNorm, true, l + "post_attention_layernorm", {h}, true, true},
      {Slot::kFc1, true, l + "mlp.dense_h_to_4h", {f, h}, true, true},
      {Slot::kFc2, true, l + "mlp.dense_4h_to_h", {h, f}, true, true},
      {Slot::kFinalNorm, false, t + "ln_f", {h}, true, true}};
  add_decoder_head(rules, s, config, true);
  return rules;
}

}  // namespace

extern const Family k_bloom;
const Family k_bloom = {"bloom",
                        "transformer.",
                        read_spec,
                        tensors,
                        "BLOOM: ALiBi, fused and interleaved q/k/v",
                        "BloomModel BloomForCausalLM BloomForSequenceClassification",
                        kKeys};

}  // namespace quell
