// Gemma 2 (Gemma Team 2024): norms in front of and behind both branches, norm weights stored less
// 1, soft caps on scores and logits, embeddings times sqrt(hidden_size), a sliding window in every
// other layer.
#include <cmath>

#include "quell/base/error.h"
#include "quell/model/llama_like.h"

namespace quell {
namespace {

constexpr DecoderDefaults kDefaults = {.vocab_size = 256000,
                                       .hidden_size = 2304,
                                       .intermediate_size = 9216,
                                       .num_hidden_layers = 26,
                                       .num_attention_heads = 8,
                                       .num_key_value_heads = 4,
                                       .head_dim = 256,
                                       .max_position_embeddings = 8192,
                                       .pad_token_id = 0,
                                       .eos_token_id = 1,
                                       .activation_key = "hidden_activation",
                                       .activation = "gelu_pytorch_tanh"};

constexpr KeyRule kKeys[] = {
    {"hidden_act"},  // hidden_activation is what counts
    {"use_bidirectional_attention", KeyRule::Effect::kChangesResults, "[null, false]",
     "attention to what follows"},
    {"cache_implementation"},
};

/// 0: none, which null says.
double read_soft_cap(const Config& config, const char* key, double fallback) {
  const std::optional<double> cap = read_optional_number(config, key, fallback);
  require(!cap || *cap > 0, ErrorCode::kInvalidInput, "key \"", key,
          "\": must be positive, or null for none");
  return cap.value_or(0);
}

/// By layer: every other one has a window, unless layer_types says otherwise.
std::vector<std::int64_t> read_windows(const Config& c, std::int64_t num_layers) {
  std::vector<bool> every_other(static_cast<std::size_t>(num_layers));
  for (std::size_t i = 0; i < every_other.size(); i += 2) every_other[i] = true;
  return windows_of(read_layer_types(c, num_layers).value_or(every_other),
                    read_optional_int(c, "sliding_window", 1, kUnlimitedPositions, 4096));
}

void build(ModelBuilder& g, const Config& c) {
  DecoderSizes sizes = read_llama_like(g, c, kDefaults);
  const std::int64_t hidden_size = g.spec.hidden_size;
  const double query_scale = read_number(c, "query_pre_attn_scalar", 256);
  require(query_scale > 0, ErrorCode::kInvalidInput,
          "key \"query_pre_attn_scalar\": must be positive");
  sizes.attention.scale = inverse_sqrt_of(query_scale);
  sizes.attention.soft_cap = read_soft_cap(c, "attn_logit_softcapping", 50);
  const std::vector<std::int64_t> windows = read_windows(c, sizes.num_layers);

  const bool bias = read_bool(c, "attention_bias", false);
  const AttentionModules modules{.query = "self_attn.q_proj",
                                 .key = "self_attn.k_proj",
                                 .value = "self_attn.v_proj",
                                 .out = "self_attn.o_proj",
                                 .qkv_bias = bias,
                                 .out_bias = bias};
  const auto norm = [&](const char* label, const char* module, ValueId x) {
    return g.norm(label, module, x, sizes.norm, {.packing = {.plus_one = true}});
  };

  const ValueId words = g.embedding("word_embeddings", "model.embed_tokens", g.token_ids(),
                                    {g.spec.vocab_size, hidden_size});
  ValueId h = g.scale(sqrt_of(static_cast<double>(hidden_size)), words);
  g.hidden_state(h);
  const ValueId positions = g.position_ids(kMaskPositions);
  for (std::int64_t l = 0; l < sizes.num_layers; ++l) {
    const auto layer = g.layer("model.layers", l);
    AttentionRecipe recipe = sizes.attention;
    recipe.sliding_window = windows[static_cast<std::size_t>(l)];

    const ValueId x = norm("attention_norm", "input_layernorm", h);
    const ValueId attended = self_attention(g, recipe, x, modules, {.positions = positions});
    h = g.add(h, norm("post_attention_norm", "post_attention_layernorm", attended));

    const ValueId y = norm("ffn_norm", "pre_feedforward_layernorm", h);
    const ValueId thought = gated_mlp(g, sizes.activation, y, g.spec.intermediate_size);
    h = g.add(h, norm("post_ffn_norm", "post_feedforward_layernorm", thought));
    g.hidden_state(h);
  }
  h = norm("final_norm", "model.norm", h);
  g.last_hidden_state(h);

  build_decoder_head(g, c, "Gemma2", h,
                     {.table = "model.embed_tokens",
                      .tied_default = true,
                      .soft_cap = read_soft_cap(c, "final_logit_softcapping", 30)});
}

}  // namespace

extern const Family k_gemma2;
const Family k_gemma2 = {
    "gemma2",
    "model.",
    build,
    "Gemma 2: norms around both branches, soft caps, windows in every other layer",
    "Gemma2Model Gemma2ForCausalLM Gemma2ForSequenceClassification",
    kKeys};

}  // namespace quell
