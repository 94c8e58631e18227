// Phi-1, 1.5 and 2 (Li et al. 2023): attention and MLP in parallel behind one norm, partly rotated
// heads, biases everywhere.
#include "quell/model/llama_like.h"

namespace quell {
namespace {

constexpr DecoderDefaults kDefaults = {.vocab_size = 51200,
                                       .hidden_size = 2048,
                                       .intermediate_size = 8192,
                                       .num_hidden_layers = 24,
                                       .max_position_embeddings = 2048,
                                       .eos_token_id = 2,
                                       .activation = "gelu_new"};

void build(ModelBuilder& g, const Config& c) {
  read_decoder_sizes(g, c, kDefaults);
  const ModelSpec& s = g.spec;
  const double eps = read_number(c, "layer_norm_eps", 1e-5);
  if (read_bool(c, "qk_layernorm", false))
    c.refuse("qk_layernorm", "norms over q and k are not supported for phi");

  AttentionRecipe attention = read_grouped_attention(c, s.hidden_size, kDefaults);
  attention.rotary = read_rotary(c, attention.head_dim, s.max_position_embeddings,
                                 {.part = "partial_rotary_factor", .default_part = 0.5});
  const AttentionModules modules{.query = "self_attn.q_proj",
                                 .key = "self_attn.k_proj",
                                 .value = "self_attn.v_proj",
                                 .out = "self_attn.dense"};
  const ActivationKind act = read_activation(c, kDefaults.activation_key, kDefaults.activation);

  ValueId h = g.embedding("word_embeddings", "model.embed_tokens", g.token_ids(),
                          {s.vocab_size, s.hidden_size});
  g.hidden_state(h);
  const ValueId positions = g.position_ids(kMaskPositions);
  const std::int64_t num_layers = read_num_layers(c, kDefaults.num_hidden_layers);
  for (std::int64_t l = 0; l < num_layers; ++l) {
    const auto layer = g.layer("model.layers", l);
    const ValueId x = g.layer_norm("attention_norm", "input_layernorm", h, eps);
    const ValueId attended = self_attention(g, attention, x, modules, {.positions = positions});
    const ValueId thought =
        mlp(g, act, x, s.intermediate_size, {.fc1 = "mlp.fc1", .fc2 = "mlp.fc2"});
    h = g.add(g.add(attended, thought), h);
    g.hidden_state(h);
  }
  h = g.layer_norm("final_norm", "model.final_layernorm", h, eps);
  g.last_hidden_state(h);

  build_decoder_head(g, c, "Phi", h, {.table = "model.embed_tokens", .bias = true});
}

}  // namespace

extern const Family k_phi;
const Family k_phi = {"phi", "model.", build,
                      "Phi 1 to 2: one norm for attention and MLP, partial rotary",
                      "PhiModel PhiForCausalLM PhiForSequenceClassification"};

}  // namespace quell
