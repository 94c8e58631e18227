// GPT-2 (Radford et al. 2019): pre-norm decoder with learned positions; linears are stored
// transposed (Conv1D), q, k and v in one.
#include "quell/model/blocks.h"
#include "quell/model/family.h"

namespace quell {
namespace {

constexpr KeyRule kKeys[] = {
    {"n_ctx"},                    // n_positions is what counts
    {"reorder_and_upcast_attn"},  // the same function in f32
};

/// Linears are stored [in, out].
constexpr Packing kTransposed = {.transposed = true};
constexpr Packing kFused = {.transposed = true, .parts = 3};

void build(ModelBuilder& g, const Config& config) {
  const Config c = config.with_aliases({{"hidden_size", "n_embd"},
                                        {"max_position_embeddings", "n_positions"},
                                        {"num_attention_heads", "n_head"},
                                        {"num_hidden_layers", "n_layer"}});
  ModelSpec& s = g.spec;
  s.vocab_size = read_int(c, "vocab_size", 1, kMaxDim, 50257);
  s.hidden_size = read_int(c, "hidden_size", 1, kMaxDim, 768);
  s.intermediate_size = read_optional_int(c, "n_inner", 1, kMaxDim).value_or(4 * s.hidden_size);
  s.max_position_embeddings = read_int(c, "max_position_embeddings", 1, kMaxDim, 1024);
  read_special_ids(c, s, std::nullopt, 50256);
  const double eps = read_number(c, "layer_norm_epsilon", 1e-5);

  AttentionRecipe attention = read_attention(c, s.hidden_size, 12);
  attention.causal = true;
  if (!read_bool(c, "scale_attn_weights", true)) attention.scale = {};
  const bool scale_by_layer = read_bool(c, "scale_attn_by_inverse_layer_idx", false);
  const AttentionModules modules{.query = "attn.c_attn",
                                 .key = "attn.c_attn",
                                 .value = "attn.c_attn",
                                 .out = "attn.c_proj",
                                 .packing = kFused,
                                 .out_packing = kTransposed};
  const ActivationKind act = read_activation(c, "activation_function", "gelu_new");

  const ValueId words = g.embedding("word_embeddings", "transformer.wte", g.token_ids(),
                                    {s.vocab_size, s.hidden_size}, {.learns_padding = true});
  const ValueId places = g.embedding("position_embeddings", "transformer.wpe",
                                     g.position_ids({PositionRule::kMaskCount}),
                                     {s.max_position_embeddings, s.hidden_size});
  ValueId h = g.add(words, places);
  g.hidden_state(h);
  const std::int64_t num_layers = read_num_layers(c, 12);
  for (std::int64_t l = 0; l < num_layers; ++l) {
    const auto layer = g.layer("transformer.h", l);
    AttentionRecipe recipe = attention;
    if (scale_by_layer) recipe.scale.divisor = static_cast<double>(l + 1);

    const ValueId x = g.layer_norm("attention_norm", "ln_1", h, eps);
    h = g.add(h, self_attention(g, recipe, x, modules));

    const ValueId y = g.layer_norm("ffn_norm", "ln_2", h, eps);
    h = g.add(h, mlp(g, act, y, s.intermediate_size,
                     {.fc1 = "mlp.c_fc", .fc2 = "mlp.c_proj", .packing = kTransposed}));
    g.hidden_state(h);
  }
  h = g.layer_norm("final_norm", "transformer.ln_f", h, eps);
  g.last_hidden_state(h);

  build_decoder_head(
      g, c, "GPT2", h,
      {.table = "transformer.wte", .tied_default = true, .lm_class = "GPT2LMHeadModel"});
}

}  // namespace

extern const Family k_gpt2;
const Family k_gpt2 = {"gpt2",
                       "transformer.",
                       build,
                       "GPT-2: transposed linears, fused q/k/v",
                       "GPT2Model GPT2LMHeadModel GPT2ForSequenceClassification",
                       kKeys};

}  // namespace quell
