// GPT-NeoX and Pythia (Black et al. 2022): attention and MLP in parallel behind two norms (or in
// series), partly rotated heads, q, k and v of each head side by side in one matrix.
#include "quell/io/json.h"
#include "quell/model/llama_like.h"

namespace quell {
namespace {

constexpr DecoderDefaults kDefaults = {.vocab_size = 50432,
                                       .hidden_size = 6144,
                                       .intermediate_size = 24576,
                                       .num_hidden_layers = 44,
                                       .num_attention_heads = 64,
                                       .max_position_embeddings = 2048,
                                       .eos_token_id = 2,
                                       .activation = "gelu"};

constexpr KeyRule kKeys[] = {{"is_decoder"}};  // it always is one

void build(ModelBuilder& g, const Config& c) {
  read_decoder_sizes(g, c, kDefaults);
  const ModelSpec& s = g.spec;
  const double eps = read_number(c, "layer_norm_eps", 1e-5);

  AttentionRecipe attention = read_attention(c, s.hidden_size, kDefaults.num_attention_heads);
  attention.causal = true;
  if (c.has("head_dim") && c.value("head_dim") != attention.head_dim)
    c.refuse("head_dim", "heads of gpt_neox have hidden_size / num_attention_heads dimensions");
  attention.rotary =
      read_rotary(c, attention.head_dim, s.max_position_embeddings,
                  {.theta = "rotary_emb_base", .part = "rotary_pct", .default_part = 0.25});
  const bool bias = read_bool(c, "attention_bias", true);
  const AttentionModules modules{.query = "attention.query_key_value",
                                 .key = "attention.query_key_value",
                                 .value = "attention.query_key_value",
                                 .out = "attention.dense",
                                 .qkv_bias = bias,
                                 .out_bias = bias,
                                 .packing = {.parts = 3, .interleaved_heads = attention.num_heads}};
  const MlpModules mlp_modules{.fc1 = "mlp.dense_h_to_4h", .fc2 = "mlp.dense_4h_to_h"};
  const ActivationKind act = read_activation(c, kDefaults.activation_key, kDefaults.activation);
  const bool parallel = read_bool(c, "use_parallel_residual", true);

  ValueId h = g.embedding("word_embeddings", "gpt_neox.embed_in", g.token_ids(),
                          {s.vocab_size, s.hidden_size}, {.learns_padding = true});
  g.hidden_state(h);
  const ValueId positions = g.position_ids(kMaskPositions);
  const std::int64_t num_layers = read_num_layers(c, kDefaults.num_hidden_layers);
  for (std::int64_t l = 0; l < num_layers; ++l) {
    const auto layer = g.layer("gpt_neox.layers", l);
    const ValueId x = g.layer_norm("attention_norm", "input_layernorm", h, eps);
    const ValueId attended = self_attention(g, attention, x, modules, {.positions = positions});
    if (!parallel) h = g.add(h, attended);

    const ValueId y = g.layer_norm("ffn_norm", "post_attention_layernorm", h, eps);
    const ValueId thought = mlp(g, act, y, s.intermediate_size, mlp_modules);
    h = parallel ? g.add(g.add(thought, attended), h) : g.add(h, thought);
    g.hidden_state(h);
  }
  h = g.layer_norm("final_norm", "gpt_neox.final_layer_norm", h, eps);
  g.last_hidden_state(h);

  build_decoder_head(g, c, "GPTNeoX", h, {.table = "gpt_neox.embed_in", .module = "embed_out"});
}

}  // namespace

extern const Family k_gpt_neox;
const Family k_gpt_neox = {"gpt_neox",
                           "gpt_neox.",
                           build,
                           "GPT-NeoX, Pythia: parallel or serial residual, partial rotary",
                           "GPTNeoXModel GPTNeoXForCausalLM GPTNeoXForSequenceClassification",
                           kKeys};

}  // namespace quell
