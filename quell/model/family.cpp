#include "quell/model/family.h"

#include <cmath>
#include <numbers>

#include "quell/base/error.h"

namespace quell {

const Family& find_family(const std::string& model_type) {
  std::string known;
  for (const Family* family : all_of(static_cast<const Family*>(nullptr))) {
    if (family->model_type == model_type) return *family;
    known += (known.empty() ? "" : ", ") + std::string(family->model_type);
  }
  throw Error(ErrorCode::kUnsupported, "model_type \"" + model_type + "\" is not supported; supported are " + known);
}

std::string architecture_of(const Json& config) {
  const auto it = config.find("architectures");
  return it != config.end() && it->is_array() && !it->empty() && it->front().is_string() ? it->front().get<std::string>() : "";
}

ActivationKind read_activation(const Json& config, const std::string& key, const std::string& fallback) {
  const std::string name = json_string(config, key, fallback);
  const auto kind = activation_from_name(name);
  require(kind.has_value(), ErrorCode::kUnsupported, "key \"", key, "\": activation \"", name, "\" is not supported");
  return *kind;
}

namespace {

/// Llama 3.1: long wavelengths are divided by `factor`, short ones kept, those between interpolated.
void scale_llama3(const Json& scaling, std::vector<float>& inv_freq) {
  const double factor = json_number(scaling, "factor", 8), low = json_number(scaling, "low_freq_factor", 1),
               high = json_number(scaling, "high_freq_factor", 4),
               context = json_number(scaling, "original_max_position_embeddings", 8192);
  require(factor > 0 && high > low && low > 0 && context > 0, ErrorCode::kInvalidInput,
          "key \"rope_scaling\": llama3 factors are out of order");
  for (float& f : inv_freq) {
    const double wavelength = 2 * std::numbers::pi / static_cast<double>(f);
    if (wavelength < context / high) continue;
    if (wavelength > context / low) {
      f = static_cast<float>(static_cast<double>(f) / factor);
      continue;
    }
    const double smooth = (context / wavelength - low) / (high - low);
    f = static_cast<float>((1 - smooth) * static_cast<double>(f) / factor + smooth * static_cast<double>(f));
  }
}

}  // namespace

void read_rotary(const Json& config, AttentionSpec& attention) {
  const auto theta = static_cast<float>(json_number(config, "rope_theta", 10000.0));
  require(theta > 0, ErrorCode::kInvalidInput, "key \"rope_theta\": must be positive");
  const auto dim = attention.head_dim;
  require(dim % 2 == 0, ErrorCode::kInvalidInput, "head size ", dim, " is odd; rotary embeddings need pairs");
  for (std::int64_t i = 0; i < dim; i += 2)
    attention.rotary_inv_freq.push_back(1.0F / std::pow(theta, static_cast<float>(i) / static_cast<float>(dim)));
  const auto it = config.find("rope_scaling");
  if (it == config.end() || it->is_null()) return;
  const std::string type = json_string(*it, "rope_type", json_string(*it, "type", "default"));
  if (type == "linear") {
    const auto factor = static_cast<float>(json_number(*it, "factor", 1.0));
    require(factor > 0, ErrorCode::kInvalidInput, "key \"rope_scaling\": factor must be positive");
    for (float& f : attention.rotary_inv_freq) f /= factor;
  } else if (type == "llama3") {
    scale_llama3(*it, attention.rotary_inv_freq);
  } else {
    require(type == "default", ErrorCode::kUnsupported, "key \"rope_scaling\": type \"", type, "\" is not supported");
  }
}

AttentionSpec read_attention(const Json& config, std::int64_t hidden_size) {
  AttentionSpec attention;
  attention.num_heads = attention.num_kv_heads = json_int(config, "num_attention_heads", 1, hidden_size);
  require(hidden_size % attention.num_heads == 0 || config.contains("head_dim"), ErrorCode::kInvalidInput,
          "key \"num_attention_heads\": ", attention.num_heads, " does not divide hidden_size ", hidden_size);
  attention.head_dim = json_int(config, "head_dim", 1, kMaxDim, hidden_size / attention.num_heads);
  attention.scale = 1.0F / std::sqrt(static_cast<float>(attention.head_dim));
  return attention;
}

void set_causal_lm_head(ModelSpec& spec) {
  spec.head = Head::kCausalLm;
  spec.head_steps = {linear(Slot::kLmHead, Value::kHidden, Value::kLogits)};
  spec.outputs = {{"last_hidden_state", Value::kHidden}, {"logits", Value::kLogits}};
}

std::vector<LayerRef> plain_layers(std::int64_t count, const AttentionSpec& attention) {
  std::vector<LayerRef> layers;
  for (std::int64_t i = 0; i < count; ++i) layers.push_back({static_cast<int>(i), attention});
  return layers;
}

}  // namespace quell
