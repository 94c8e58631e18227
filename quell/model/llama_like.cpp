#include "quell/model/llama_like.h"

#include "quell/base/error.h"

namespace quell {

void read_decoder_sizes(ModelBuilder& g, const Config& c, const DecoderDefaults& d) {
  ModelSpec& s = g.spec;
  s.vocab_size = read_int(c, "vocab_size", 1, kMaxDim, d.vocab_size);
  s.hidden_size = read_int(c, "hidden_size", 1, kMaxDim, d.hidden_size);
  s.intermediate_size = read_int(c, "intermediate_size", 1, kMaxDim, d.intermediate_size);
  s.max_position_embeddings =
      read_int(c, "max_position_embeddings", 1, kUnlimitedPositions, d.max_position_embeddings);
  read_special_ids(c, s, d.pad_token_id, d.eos_token_id);
}

AttentionRecipe read_grouped_attention(const Config& config, std::int64_t hidden_size,
                                       const DecoderDefaults& defaults) {
  AttentionRecipe attention = read_attention_with_head_dim(
      config, hidden_size, defaults.num_attention_heads, defaults.head_dim);
  attention.num_kv_heads =
      read_optional_int(config, "num_key_value_heads", 1, kMaxHeads, defaults.num_key_value_heads)
          .value_or(attention.num_heads);
  require(attention.num_heads % attention.num_kv_heads == 0, ErrorCode::kInvalidInput,
          "key \"num_key_value_heads\": ", attention.num_kv_heads,
          " does not divide num_attention_heads ", attention.num_heads);
  attention.causal = true;
  return attention;
}

DecoderSizes read_llama_like(ModelBuilder& g, const Config& c, const DecoderDefaults& defaults) {
  read_decoder_sizes(g, c, defaults);

  DecoderSizes sizes;
  sizes.norm = {NormKind::kRmsNorm, read_number(c, "rms_norm_eps", defaults.rms_norm_eps)};
  sizes.attention = read_grouped_attention(c, g.spec.hidden_size, defaults);
  sizes.attention.rotary = read_rotary(c, sizes.attention.head_dim, g.spec.max_position_embeddings,
                                       {.default_theta = defaults.rope_theta});
  sizes.activation = read_activation(c, defaults.activation_key, defaults.activation);
  sizes.num_layers = read_num_layers(c, defaults.num_hidden_layers);
  return sizes;
}

namespace {

ValueId attention(ModelBuilder& g, const DecoderSizes& sizes, const AttentionRecipe& recipe,
                  ValueId x, ValueId positions, const LlamaVariant& variant) {
  const AttentionModules modules{.query = "self_attn.q_proj",
                                 .key = "self_attn.k_proj",
                                 .value = "self_attn.v_proj",
                                 .out = "self_attn.o_proj",
                                 .qkv_bias = variant.qkv_bias,
                                 .out_bias = variant.out_bias};
  Projections p = project(g, recipe, x, x, modules);
  if (variant.head_norms) {
    const std::int64_t head_dim = recipe.head_dim;
    p.query = g.head_norm("q_norm", "self_attn.q_norm", p.query, head_dim, sizes.norm);
    p.key = g.head_norm("k_norm", "self_attn.k_norm", p.key, head_dim, sizes.norm);
  }
  ValueId context = g.attention(recipe, p.query, p.key, p.value, {.positions = positions});
  if (variant.sub_norms)
    context = g.norm("attention_sub_norm", "self_attn.attn_sub_norm", context, sizes.norm);
  return project_out(g, context, x, modules);
}

ValueId gated(ModelBuilder& g, const DecoderSizes& sizes, ValueId x, const LlamaVariant& variant) {
  const GatedMlpModules modules{.bias = variant.mlp_bias};
  ValueId product = gated_product(g, sizes.activation, x, g.spec.intermediate_size, modules);
  if (variant.sub_norms) product = g.norm("ffn_sub_norm", "mlp.ffn_sub_norm", product, sizes.norm);
  return project_down(g, product, x, modules);
}

}  // namespace

ValueId build_llama_like(ModelBuilder& g, const DecoderSizes& sizes, const LlamaVariant& variant) {
  const std::int64_t hidden_size = g.spec.hidden_size;
  ValueId h = g.embedding("word_embeddings", "model.embed_tokens", g.token_ids(),
                          {g.spec.vocab_size, hidden_size});
  g.hidden_state(h);

  const ValueId positions = g.position_ids(kMaskPositions);
  for (std::int64_t l = 0; l < sizes.num_layers; ++l) {
    const auto layer = g.layer("model.layers", l);
    AttentionRecipe recipe = sizes.attention;
    if (!variant.windows.empty())
      recipe.sliding_window = variant.windows[static_cast<std::size_t>(l)];

    const ValueId x = g.norm("attention_norm", "input_layernorm", h, sizes.norm);
    h = g.add(h, attention(g, sizes, recipe, x, positions, variant));

    const ValueId y = g.norm("ffn_norm", "post_attention_layernorm", h, sizes.norm);
    h = g.add(h, gated(g, sizes, y, variant));
    g.hidden_state(h);
  }

  h = g.norm("final_norm", "model.norm", h, sizes.norm);
  g.last_hidden_state(h);
  return h;
}

std::vector<std::int64_t> read_qwen_windows(const Config& config, std::int64_t num_layers) {
  auto window = read_optional_int(config, "sliding_window", 1, kUnlimitedPositions, 4096);
  const std::int64_t first = read_int(config, "max_window_layers", 0, kMaxDim, 28);
  if (!read_bool(config, "use_sliding_window", false)) window = std::nullopt;

  std::vector<bool> windowed(static_cast<std::size_t>(num_layers), false);
  for (std::int64_t i = first; i < num_layers && window; ++i)
    windowed[static_cast<std::size_t>(i)] = true;
  return windows_of(read_layer_types(config, num_layers).value_or(windowed), window);
}

}  // namespace quell
