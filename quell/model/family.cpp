#include "quell/model/family.h"

#include <algorithm>
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

std::string architecture_of(const Settings& config) {
  const Json& names = config.value("architectures");
  return names.is_array() && !names.empty() && names.front().is_string() ? names.front().get<std::string>() : "";
}

ActivationKind read_activation(const Settings& config, const std::string& key, const std::string& fallback) {
  const std::string name = json_string(config, key, fallback);
  const auto kind = activation_from_name(name);
  require(kind.has_value(), ErrorCode::kUnsupported, "key \"", key, "\": activation \"", name, "\" is not supported");
  return *kind;
}

namespace {

/// Llama 3.1: long wavelengths are divided by `factor`, short ones kept, those between interpolated.
void scale_llama3(const Settings& scaling, std::vector<float>& inv_freq) {
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

void read_rotary(const Settings& config, AttentionSpec& attention, double default_part) {
  const auto theta = static_cast<float>(json_number(config, "rope_theta", json_number(config, "rotary_emb_base", 10000.0)));
  require(theta > 0, ErrorCode::kInvalidInput, "key \"rope_theta\": must be positive");
  const double part = json_number(config, "partial_rotary_factor", json_number(config, "rotary_pct", default_part));
  require(part > 0 && part <= 1, ErrorCode::kInvalidInput, "key \"partial_rotary_factor\": must be in (0, 1]");
  const auto dim = static_cast<std::int64_t>(static_cast<double>(attention.head_dim) * part);
  require(dim % 2 == 0, ErrorCode::kInvalidInput, "rotary size ", dim, " of a head is odd; rotary embeddings need pairs");
  for (std::int64_t i = 0; i < dim; i += 2)
    attention.rotary_inv_freq.push_back(1.0F / std::pow(theta, static_cast<float>(i) / static_cast<float>(dim)));
  const Settings scaling = config.section("rope_scaling");
  const std::string type = json_string(scaling, "rope_type", json_string(scaling, "type", "default"));
  if (type == "linear") {
    const auto factor = static_cast<float>(json_number(scaling, "factor", 1.0));
    require(factor > 0, ErrorCode::kInvalidInput, "key \"rope_scaling\": factor must be positive");
    for (float& f : attention.rotary_inv_freq) f /= factor;
  } else if (type == "llama3") {
    scale_llama3(scaling, attention.rotary_inv_freq);
  } else {
    require(type == "default", ErrorCode::kUnsupported, "key \"rope_scaling\": type \"", type, "\" is not supported");
  }
}

AttentionSpec read_attention(const Settings& config, std::int64_t hidden_size) {
  AttentionSpec attention;
  attention.num_heads = attention.num_kv_heads = json_int(config, "num_attention_heads", 1, std::min(hidden_size, kMaxHeads));
  require(hidden_size % attention.num_heads == 0 || config.contains("head_dim"), ErrorCode::kInvalidInput,
          "key \"num_attention_heads\": ", attention.num_heads, " does not divide hidden_size ", hidden_size);
  attention.head_dim = json_int(config, "head_dim", 1, kMaxHeadDim, hidden_size / attention.num_heads);
  require(attention.head_dim <= kMaxHeadDim, ErrorCode::kInvalidInput, "key \"num_attention_heads\": heads of ", attention.head_dim,
          " dimensions are more than ", kMaxHeadDim);
  attention.scale = 1.0F / std::sqrt(static_cast<float>(attention.head_dim));
  return attention;
}

std::vector<LayerRef> plain_layers(std::int64_t count, const AttentionSpec& attention, int first_weights) {
  std::vector<LayerRef> layers;
  for (std::int64_t i = 0; i < count; ++i) layers.push_back({first_weights + static_cast<int>(i), attention});
  return layers;
}

std::vector<LayerRef> windowed_layers(const Settings& config, std::int64_t count, AttentionSpec attention, std::int64_t window) {
  std::vector<LayerRef> layers = plain_layers(count, attention);
  const Json& types = config.value("layer_types");
  const bool listed = types.is_array();
  require(!listed || types.size() == layers.size(), ErrorCode::kInvalidInput, "key \"layer_types\": needs one entry a layer");
  for (std::size_t i = 0; i < layers.size(); ++i)
    if (!listed || types[i] == "sliding_attention") layers[i].attention.sliding_window = window;
  return layers;
}

void read_special_ids(const Settings& config, ModelSpec& spec, std::int32_t default_pad) {
  spec.pad_token_id = static_cast<std::int32_t>(json_int(config, "pad_token_id", -1, kMaxDim, default_pad));
  if (spec.pad_token_id < 0) spec.pad_token_id = 0;
  const Json& eos = config.value("eos_token_id");
  if (eos.is_null()) return;
  for (const Json& id : eos.is_array() ? eos : Json::array({eos})) {
    require(id.is_number_integer(), ErrorCode::kInvalidInput, "key \"eos_token_id\": must be an integer or a list of integers");
    spec.eos_token_ids.push_back(id.get<std::int32_t>());
  }
}

std::int64_t num_labels(const Settings& config) {
  const Json& labels = config.value("id2label");
  const std::int64_t count = labels.is_object() ? static_cast<std::int64_t>(labels.size()) : 2;
  return json_int(config, "num_labels", 1, kMaxDim, count);
}

namespace {

[[noreturn]] void refuse_architecture(const std::string& architecture, const std::string& name) {
  throw Error(ErrorCode::kUnsupported, "architecture \"" + architecture + "\" is not supported for " + name);
}

}  // namespace

void set_decoder_head(ModelSpec& spec, const Settings& config, const std::string& name, const std::string& lm_class) {
  const std::string architecture = architecture_of(config);
  spec.outputs = {{"last_hidden_state", Value::kHidden}};
  // Without a head the language model's is assumed: the config of a bare decoder is used for both.
  if (architecture.empty() || architecture == name + "Model" ||
      architecture == (lm_class.empty() ? name + "ForCausalLM" : lm_class)) {
    spec.head = Head::kCausalLm;
    spec.head_steps = {linear(Slot::kLmHead, Value::kHidden, Value::kLogits)};
  } else if (architecture == name + "ForSequenceClassification") {
    spec.head = Head::kSequenceClassification;
    spec.head_steps = {simple_step(StepKind::kSelectLast, Value::kHidden, Value::kPooled),
                       linear(Slot::kClassifier, Value::kPooled, Value::kLogits)};
  } else {
    refuse_architecture(architecture, name);
  }
  spec.outputs.emplace_back("logits", Value::kLogits);
}

void add_decoder_head(std::vector<TensorRule>& rules, const ModelSpec& spec, const Settings& config, bool tied_default,
                      const std::string& module, bool bias) {
  if (spec.head == Head::kSequenceClassification) {
    rules.push_back({Slot::kClassifier, false, "score", {num_labels(config), spec.hidden_size}});
    return;
  }
  const Slot tied = json_bool(config, "tie_word_embeddings", tied_default) ? Slot::kWordEmbedding : Slot::kNone;
  rules.push_back({Slot::kLmHead, false, module, {spec.vocab_size, spec.hidden_size}, true, bias, tied});
}

void set_encoder_head(ModelSpec& spec, const Settings& config, const std::string& name, const std::vector<Step>& pooler,
                      const std::vector<Step>& masked_lm) {
  const std::string architecture = architecture_of(config);
  spec.outputs = {{"last_hidden_state", Value::kHidden}};
  const auto is = [&](const char* suffix) { return architecture == name + suffix; };
  if (architecture.empty() || is("Model")) {
    spec.head_steps = pooler;
    if (!pooler.empty()) spec.outputs.emplace_back("pooler_output", Value::kPooled);
  } else if (is("ForSequenceClassification")) {
    spec.head = Head::kSequenceClassification;
    spec.head_steps = pooler;
    spec.head_steps.push_back(linear(Slot::kClassifier, Value::kPooled, Value::kLogits));
  } else if (is("ForTokenClassification")) {
    spec.head = Head::kTokenClassification;
    spec.head_steps = {linear(Slot::kClassifier, Value::kHidden, Value::kLogits)};
  } else if (is("ForQuestionAnswering")) {
    spec.head = Head::kQuestionAnswering;
    spec.head_steps = {linear(Slot::kClassifier, Value::kHidden, Value::kBranch),
                       simple_step(StepKind::kSelectColumn, Value::kBranch, Value::kStartLogits, 0),
                       simple_step(StepKind::kSelectColumn, Value::kBranch, Value::kEndLogits, 1)};
    spec.outputs.emplace_back("start_logits", Value::kStartLogits);
    spec.outputs.emplace_back("end_logits", Value::kEndLogits);
    return;
  } else if ((is("ForMaskedLM") || is("ForPreTraining")) && !masked_lm.empty()) {
    spec.head = Head::kMaskedLm;
    spec.head_steps = masked_lm;
  } else {
    refuse_architecture(architecture, name);
  }
  if (spec.head != Head::kNone) spec.outputs.emplace_back("logits", Value::kLogits);
}

void add_encoder_head(std::vector<TensorRule>& rules, const ModelSpec& spec, const Settings& config,
                      const std::string& classifier) {
  if (spec.head == Head::kSequenceClassification || spec.head == Head::kTokenClassification)
    rules.push_back({Slot::kClassifier, false, classifier, {num_labels(config), spec.hidden_size}, true, true});
  if (spec.head == Head::kQuestionAnswering)
    rules.push_back({Slot::kClassifier, false, "qa_outputs", {2, spec.hidden_size}, true, true});
}

std::int64_t packed_row(const Packing& packing, std::int64_t row, std::int64_t rows) {
  if (packing.interleaved_heads == 0) return packing.part * rows + row;
  const std::int64_t head_dim = rows / packing.interleaved_heads;
  return (row / head_dim * packing.parts + packing.part) * head_dim + row % head_dim;
}

}  // namespace quell
