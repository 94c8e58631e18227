// BLOOM (BigScience 2022): pre-norm decoder with ALiBi instead of positions, a norm behind the
// embedding, and q, k and v of each head side by side in one matrix.
#include "quell/io/json.h"
#include "quell/model/blocks.h"
#include "quell/model/family.h"

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

void build(ModelBuilder& g, const Config& config) {
  const Config c =
      config.with_aliases({{"num_attention_heads", "n_head"}, {"num_hidden_layers", "n_layer"}});
  ModelSpec& s = g.spec;
  s.vocab_size = read_int(c, "vocab_size", 1, kMaxDim, 250880);
  s.hidden_size = read_int(c, "hidden_size", 1, kMaxDim, 64);
  s.hidden_size = read_optional_int(c, "n_embed", 1, kMaxDim).value_or(s.hidden_size);
  s.intermediate_size = 4 * s.hidden_size;
  s.max_position_embeddings = kUnlimitedPositions;  // ALiBi knows no limit
  read_special_ids(c, s, std::nullopt, 2);
  const double eps = read_number(c, "layer_norm_epsilon", 1e-5);

  // With both, the reference adds up parts of the products and leaves their biases out.
  if (c.json().value("slow_but_exact", Json()) == true &&
      read_int(c, "pretraining_tp", 1, kMaxDim, 1) > 1)
    c.refuse("slow_but_exact", "products in parts, without their biases, are not supported");

  AttentionRecipe attention = read_attention(c, s.hidden_size, 8);
  attention.causal = true;
  attention.alibi = true;
  const AttentionModules modules{.query = "self_attention.query_key_value",
                                 .key = "self_attention.query_key_value",
                                 .value = "self_attention.query_key_value",
                                 .out = "self_attention.dense",
                                 .packing = {.parts = 3, .interleaved_heads = attention.num_heads}};

  const ValueId words = g.embedding("word_embeddings", "transformer.word_embeddings", g.token_ids(),
                                    {s.vocab_size, s.hidden_size}, {.learns_padding = true});
  ValueId h = g.layer_norm("embedding_norm", "transformer.word_embeddings_layernorm", words, eps);
  g.hidden_state(h);
  const ValueId positions = g.position_ids({PositionRule::kMaskCount});
  const std::int64_t num_layers = read_num_layers(c, 2);
  for (std::int64_t l = 0; l < num_layers; ++l) {
    const auto layer = g.layer("transformer.h", l);
    const ValueId x = g.layer_norm("attention_norm", "input_layernorm", h, eps);
    h = g.add(h, self_attention(g, attention, x, modules, {.positions = positions}));

    const ValueId y = g.layer_norm("ffn_norm", "post_attention_layernorm", h, eps);
    h = g.add(h, mlp(g, ActivationKind::kGeluTanh, y, s.intermediate_size,
                     {.fc1 = "mlp.dense_h_to_4h", .fc2 = "mlp.dense_4h_to_h"}));
    g.hidden_state(h);
  }
  h = g.layer_norm("final_norm", "transformer.ln_f", h, eps);
  g.last_hidden_state(h);

  build_decoder_head(g, c, "Bloom", h,
                     {.table = "transformer.word_embeddings", .tied_default = true});
}

}  // namespace

extern const Family k_bloom;
const Family k_bloom = {"bloom",
                        "transformer.",
                        build,
                        "BLOOM: ALiBi, fused and interleaved q/k/v",
                        "BloomModel BloomForCausalLM BloomForSequenceClassification",
                        kKeys};

}  // namespace quell
