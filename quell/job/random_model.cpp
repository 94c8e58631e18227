#include "quell/job/random_model.h"

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/io/json.h"

namespace quell {
namespace {

struct Shape2 {
  const char *name, *config;
};
constexpr Shape2 kModels[] = {
    {"bert-base",
     R"({"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 30522, "hidden_size": 768,
       "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu",
       "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12})"},
    {"minilm",
     R"({"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 30522, "hidden_size": 384,
       "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536, "hidden_act": "gelu",
       "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12})"},
    {"llama-110m",
     R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32000, "hidden_size": 768,
       "num_hidden_layers": 12, "num_attention_heads": 12, "num_key_value_heads": 12, "intermediate_size": 2048, "hidden_act": "silu",
       "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true})"},
    {"opt-125m",
     R"({"model_type": "opt", "architectures": ["OPTForCausalLM"], "vocab_size": 50272, "hidden_size": 768,
       "word_embed_proj_dim": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "ffn_dim": 3072, "activation_function": "relu",
       "max_position_embeddings": 2048, "do_layer_norm_before": true, "tie_word_embeddings": true})"}};

void fill(Tensor& t, Random& rng, float center, float width) {
  for (float& v : t.f32()) v = center + width * static_cast<float>(2 * rng.uniform() - 1);
}

}  // namespace

std::vector<std::string> random_model_names() {
  std::vector<std::string> out;
  for (const Shape2& m : kModels) out.emplace_back(m.name);
  return out;
}

Model make_zero_model(const std::string& config) {
  const Settings settings(Json::parse(config));
  Model model = make_zero_model(build_architecture(settings));
  model.config = normalize_config(settings.json());
  return model;
}

Model make_random_model(const std::string& name) {
  const Shape2* found = nullptr;
  for (const Shape2& m : kModels)
    if (name == m.name) found = &m;
  require(found != nullptr, ErrorCode::kUsage, "no random model \"", name,
          "\"; see quell bench --help");
  Model model = make_zero_model(found->config);
  model.dir = name;
  Random rng(1);
  for (Param& p : model.params) {
    if (p.tied_to < 0 && p.weight.defined())
      p.weight.shape().rank() == 1 ? fill(p.weight, rng, 1.0F, 0.1F)
                                   : fill(p.weight, rng, 0.0F, 0.05F);
    if (p.bias.defined()) fill(p.bias, rng, 0.0F, 0.1F);
  }
  return model;
}

}  // namespace quell
