// GPT-Neo (Black et al. 2021): GPT-2 with local attention in some layers and no scale of the
// scores.
#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/model/blocks.h"
#include "quell/model/family.h"

namespace quell {
namespace {

/// "attention_layers", or its short form "attention_types": [[["global", "local"], repeats], ...].
std::vector<std::string> attention_layers(const Config& config, std::size_t count) {
  std::vector<std::string> names;
  const Json& layers = config.value("attention_layers");
  const Json& types = config.value("attention_types");
  if (layers.is_array()) {
    names = layers.get<std::vector<std::string>>();
  } else {
    static const Json kDefault = Json::parse(R"([[["global", "local"], 12]])");
    for (const Json& entry : types.is_array() ? types : kDefault) {
      require(!entry.at(0).empty(), ErrorCode::kInvalidInput,
              "key \"attention_types\": an empty list");
      for (std::int64_t i = 0; i < entry.at(1).get<std::int64_t>() && names.size() <= count; ++i)
        for (const Json& name : entry.at(0)) names.push_back(name.get<std::string>());
    }
  }

  require(names.size() == count, ErrorCode::kInvalidInput,
          "key \"attention_types\": does not say one kind of attention a layer");
  for (const std::string& name : names)
    require(name == "global" || name == "local", ErrorCode::kUnsupported,
            "key \"attention_types\": \"", name, "\" is not supported");
  return names;
}

constexpr KeyRule kKeys[] = {{"is_causal"}};  // nobody reads it

void build(ModelBuilder& g, const Config& config) {
  const Config c = config.with_aliases(
      {{"num_attention_heads", "num_heads"}, {"num_hidden_layers", "num_layers"}});
  ModelSpec& s = g.spec;
  s.vocab_size = read_int(c, "vocab_size", 1, kMaxDim, 50257);
  s.hidden_size = read_int(c, "hidden_size", 1, kMaxDim, 2048);
  s.intermediate_size =
      read_optional_int(c, "intermediate_size", 1, kMaxDim).value_or(4 * s.hidden_size);
  s.max_position_embeddings = read_int(c, "max_position_embeddings", 1, kMaxDim, 2048);
  read_special_ids(c, s, std::nullopt, 50256);
  const double eps = read_number(c, "layer_norm_epsilon", 1e-5);

  AttentionRecipe attention = read_attention(c, s.hidden_size, 16);
  attention.causal = true;
  attention.scale = {};
  const AttentionModules modules{.query = "attn.attention.q_proj",
                                 .key = "attn.attention.k_proj",
                                 .value = "attn.attention.v_proj",
                                 .out = "attn.attention.out_proj",
                                 .qkv_bias = false};
  const ActivationKind act = read_activation(c, "activation_function", "gelu_new");
  const std::int64_t num_layers = read_num_layers(c, 24);
  const std::vector<std::string> kinds = attention_layers(c, static_cast<std::size_t>(num_layers));
  const std::int64_t window = read_int(c, "window_size", 1, kMaxDim, 256);

  const ValueId words = g.embedding("word_embeddings", "transformer.wte", g.token_ids(),
                                    {s.vocab_size, s.hidden_size}, {.learns_padding = true});
  const ValueId places = g.embedding("position_embeddings", "transformer.wpe",
                                     g.position_ids({PositionRule::kMaskCount}),
                                     {s.max_position_embeddings, s.hidden_size});
  ValueId h = g.add(words, places);
  g.hidden_state(h);
  for (std::int64_t l = 0; l < num_layers; ++l) {
    const auto layer = g.layer("transformer.h", l);
    AttentionRecipe recipe = attention;
    if (kinds[static_cast<std::size_t>(l)] == "local") recipe.sliding_window = window;

    const ValueId x = g.layer_norm("attention_norm", "ln_1", h, eps);
    h = g.add(h, self_attention(g, recipe, x, modules));

    const ValueId y = g.layer_norm("ffn_norm", "ln_2", h, eps);
    h = g.add(h, mlp(g, act, y, s.intermediate_size, {.fc1 = "mlp.c_fc", .fc2 = "mlp.c_proj"}));
    g.hidden_state(h);
  }
  h = g.layer_norm("final_norm", "transformer.ln_f", h, eps);
  g.last_hidden_state(h);

  build_decoder_head(g, c, "GPTNeo", h, {.table = "transformer.wte", .tied_default = true});
}

}  // namespace

extern const Family k_gpt_neo;
const Family k_gpt_neo = {"gpt_neo",
                          "transformer.",
                          build,
                          "GPT-Neo: global and local attention",
                          "GPTNeoModel GPTNeoForCausalLM GPTNeoForSequenceClassification",
                          kKeys,
                          /*reads_is_causal=*/false};

}  // namespace quell
