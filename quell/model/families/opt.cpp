// OPT (Zhang et al. 2022): pre-norm decoder with learned positions; OPT-350m is post-norm with
// projections around a narrower embedding.
#include "quell/model/blocks.h"
#include "quell/model/family.h"

namespace quell {
namespace {

constexpr std::int32_t kPositionOffset = 2;  // rows 0 and 1 of the position table are not used

void build(ModelBuilder& g, const Config& c) {
  ModelSpec& s = g.spec;
  s.vocab_size = read_int(c, "vocab_size", 1, kMaxDim, 50272);
  s.hidden_size = read_int(c, "hidden_size", 1, kMaxDim, 768);
  s.intermediate_size = read_int(c, "ffn_dim", 1, kMaxDim, 3072);
  s.max_position_embeddings = read_int(c, "max_position_embeddings", 1, kMaxDim, 2048);
  read_special_ids(c, s, 1, 2);
  const std::int64_t embedding_size =
      read_optional_int(c, "word_embed_proj_dim", 1, kMaxDim).value_or(s.hidden_size);
  const bool projected = embedding_size != s.hidden_size;
  const bool pre_norm = read_bool(c, "do_layer_norm_before", true);
  const bool removed = read_bool(c, "_remove_final_layer_norm", false);
  const bool bias = read_bool(c, "enable_bias", true);
  const bool affine = read_bool(c, "layer_norm_elementwise_affine", true);

  AttentionRecipe attention = read_attention(c, s.hidden_size, 12);
  attention.causal = true;
  attention.quantize_scaled_query = true;
  const AttentionModules modules{.query = "self_attn.q_proj",
                                 .key = "self_attn.k_proj",
                                 .value = "self_attn.v_proj",
                                 .out = "self_attn.out_proj",
                                 .qkv_bias = bias,
                                 .out_bias = bias};
  const MlpModules mlp_modules{.fc1 = "fc1", .fc2 = "fc2", .bias = bias};
  const ActivationKind act = read_activation(c, "activation_function", "relu");
  const auto norm = [&](const char* label, const char* module, ValueId x) {
    return g.norm(label, module, x, {NormKind::kLayerNorm, 1e-5},
                  {.weight = affine, .bias = affine});
  };

  const auto decoder = g.scope("model.decoder");
  ValueId h =
      g.embedding("word_embeddings", "embed_tokens", g.token_ids(), {s.vocab_size, embedding_size});
  if (projected)
    h = g.linear("project_in", "project_in", h, s.hidden_size, {.role = Role::kProjection});
  const ValueId positions = g.position_ids({PositionRule::kMaskCount, kPositionOffset});
  h = g.add(h, g.embedding("position_embeddings", "embed_positions", positions,
                           {s.max_position_embeddings + kPositionOffset, s.hidden_size}));
  g.hidden_state(h);

  const std::int64_t num_layers = read_num_layers(c, 12);
  for (std::int64_t l = 0; l < num_layers; ++l) {
    const auto layer = g.layer("layers", l);
    ValueId x = pre_norm ? norm("attention_norm", "self_attn_layer_norm", h) : h;
    h = g.add(h, self_attention(g, attention, x, modules));
    if (!pre_norm) h = norm("attention_norm", "self_attn_layer_norm", h);

    x = pre_norm ? norm("ffn_norm", "final_layer_norm", h) : h;
    h = g.add(h, mlp(g, act, x, s.intermediate_size, mlp_modules));
    if (!pre_norm) h = norm("ffn_norm", "final_layer_norm", h);
    g.hidden_state(h);
  }
  if (pre_norm && !removed) h = norm("final_norm", "final_layer_norm", h);
  if (projected)
    h = g.linear("project_out", "project_out", h, embedding_size, {.role = Role::kProjection});
  g.last_hidden_state(h);

  const auto outside = g.absolute();
  build_decoder_head(g, c, "OPT", h, {.table = "model.decoder.embed_tokens", .tied_default = true});
}

}  // namespace

extern const Family k_opt;
const Family k_opt = {"opt", "model.", build,
                      "OPT, Galactica: learned positions; the 350m post-norm variant",
                      "OPTModel OPTForCausalLM OPTForSequenceClassification"};

}  // namespace quell
