// GPT-Neo (Black et al. 2021): GPT-2 with local attention in some layers and no scale of the
// scores.
#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/model/family.h"

namespace quell {
namespace {

/// "attention_layers", or its short form "attention_types": [[["global", "local"], repeats], ...].
std::vector<std::string> attention_layers(const Settings& config, std::size_t count) {
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

ModelSpec read_spec(const Settings& file) {
  const Settings config = file.with_aliases(
      {{"num_attention_heads", "num_heads"}, {"num_hidden_layers", "num_layers"}});
  ModelSpec s;
  s.vocab_size = read_int(config, "vocab_size", 1, kMaxDim, 50257);
  s.hidden_size = read_int(config, "hidden_size", 1, kMaxDim, 2048);
  s.intermediate_size =
      read_optional_int(config, "intermediate_size", 1, kMaxDim).value_or(4 * s.hidden_size);
  s.max_position_embeddings = read_int(config, "max_position_embeddings", 1, kMaxDim, 2048);
  s.norm_eps = read_number(config, "layer_norm_epsilon", 1e-5);
  s.position_rule = PositionRule::kMaskCount;
  read_special_ids(config, s, std::nullopt, 50256);

  AttentionSpec attention = read_attention(config, s.hidden_size, 16);
  attention.causal = true;
  attention.scale = 1.0F;

  Stack stack;
  stack.prologue = {embedding(Slot::kWordEmbedding, Value::kHidden),
                    embedding(Slot::kPositionEmbedding, Value::kEmbedded),
                    add_values(Value::kHidden, Value::kEmbedded, Value::kHidden)};
  stack.block = pre_norm_block(
      mlp_steps(read_activation(config, "activation_function", "gelu_new"), Value::kNormed));
  stack.epilogue = {norm(Slot::kFinalNorm, Value::kHidden, Value::kHidden)};
  stack.layers = plain_layers(read_int(config, "num_hidden_layers", 1, kMaxLayers, 24), attention);
  const std::vector<std::string> kinds = attention_layers(config, stack.layers.size());
  const std::int64_t window = read_int(config, "window_size", 1, kMaxDim, 256);
  for (std::size_t i = 0; i < kinds.size(); ++i)
    stack.layers[i].attention.sliding_window = kinds[i] == "local" ? window : 0;
  s.stacks.push_back(std::move(stack));
  set_decoder_head(s, config, "GPTNeo");
  return s;
}

std::vector<TensorRule> tensors(const ModelSpec& s, const Settings& config) {
  const std::int64_t h = s.hidden_size, f = s.intermediate_size;
  const std::string t = "transformer.", l = t + "h.{}.", a = l + "attn.attention.";
  std::vector<TensorRule> rules = {
      {Slot::kWordEmbedding, false, t + "wte", {s.vocab_size, h}},
      {Slot::kPositionEmbedding, false, t + "wpe", {s.max_position_embeddings, h}},
      {Slot::kAttentionNorm, true, l + "ln_1", {h}, true, true},
      {Slot::kQProj, true, a + "q_proj", {h, h}},
      {Slot::kKProj, true, a + "k_proj", {h, h}},
      {Slot::kVProj, true, a + "v_proj", {h, h}},
      {Slot::kOutProj, true, a + "out_proj", {h, h}, true, true},
      {Slot::kFfnNorm, true, l + "ln_2", {h}, true, true},
      {Slot::kFc1, true, l + "mlp.c_fc", {f, h}, true, true},
      {Slot::kFc2, true, l + "mlp.c_proj", {h, f}, true, true},
      {Slot::kFinalNorm, false, t + "ln_f", {h}, true, true}};
  add_decoder_head(rules, s, config, true);
  return rules;
}

// Its attention is causal whatever config.json says.
constexpr KeyRule kKeys[] = {{"is_causal"}};

}  // namespace

extern const Family k_gpt_neo;
const Family k_gpt_neo = {"gpt_neo",
                          "transformer.",
                          read_spec,
                          tensors,
                          "GPT-Neo: global and local attention",
                          "GPTNeoModel GPTNeoForCausalLM GPTNeoForSequenceClassification",
                          kKeys};

}  // namespace quell
