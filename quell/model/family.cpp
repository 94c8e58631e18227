#include "quell/model/family.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/io/json.h"

namespace quell {

const Family& find_family(const std::string& model_type) {
  std::string known;
  for (const Family* family : all_of(static_cast<const Family*>(nullptr))) {
    if (family->model_type == model_type) return *family;
    known += (known.empty() ? "" : ", ") + std::string(family->model_type);
  }
  throw Error(ErrorCode::kUnsupported,
              "model_type \"" + model_type + "\" is not supported; supported are " + known);
}

namespace {

/// Whether `key` has a value; null counts as an error of the file.
bool has_value(const Settings& config, const std::string& key) {
  require(!config.contains(key) || config.has(key), ErrorCode::kInvalidInput, "key \"",
          config.stored_key(key), "\": is null, which says nothing; leave it out for the default");
  return config.contains(key);
}

}  // namespace

std::int64_t read_int(const Settings& config, const std::string& key, std::int64_t low,
                      std::int64_t high, std::int64_t fallback) {
  return has_value(config, key) ? json_int(config, key, low, high) : fallback;
}

double read_number(const Settings& config, const std::string& key, double fallback) {
  return has_value(config, key) ? json_number(config, key, fallback) : fallback;
}

bool read_bool(const Settings& config, const std::string& key, bool fallback) {
  return has_value(config, key) ? json_bool(config, key, fallback) : fallback;
}

std::string read_string(const Settings& config, const std::string& key,
                        const std::string& fallback) {
  return has_value(config, key) ? json_string(config, key, fallback) : fallback;
}

std::optional<std::int64_t> read_optional_int(const Settings& config, const std::string& key,
                                              std::int64_t low, std::int64_t high,
                                              std::optional<std::int64_t> fallback) {
  if (!config.contains(key)) return fallback;
  if (config.value(key).is_null()) return std::nullopt;
  return json_int(config, key, low, high);
}

std::optional<double> read_optional_number(const Settings& config, const std::string& key,
                                           std::optional<double> fallback) {
  if (!config.contains(key)) return fallback;
  if (config.value(key).is_null()) return std::nullopt;
  return json_number(config, key, 0);
}

std::string architecture_of(const Settings& config) {
  const Json& names = config.value("architectures");
  return names.is_array() && !names.empty() && names.front().is_string()
             ? names.front().get<std::string>()
             : "";
}

ActivationKind read_activation(const Settings& config, const std::string& key,
                               const std::string& fallback) {
  const std::string name = read_string(config, key, fallback);
  const auto kind = activation_from_name(name);
  require(kind.has_value(), ErrorCode::kUnsupported, "key \"", config.stored_key(key),
          "\": activation \"", name, "\" is not supported");
  return *kind;
}

namespace {

AttentionSpec make_attention(std::int64_t num_heads, std::int64_t head_dim) {
  require(head_dim <= kMaxHeadDim, ErrorCode::kInvalidInput,
          "key \"num_attention_heads\": heads of ", head_dim, " dimensions are more than ",
          kMaxHeadDim);

  AttentionSpec attention;
  attention.num_heads = attention.num_kv_heads = num_heads;
  attention.head_dim = head_dim;
  attention.scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  return attention;
}

std::int64_t divided_among_heads(std::int64_t hidden_size, std::int64_t heads) {
  require(hidden_size % heads == 0, ErrorCode::kInvalidInput,
          "key \"num_attention_heads\": ", heads, " does not divide hidden_size ", hidden_size);
  return hidden_size / heads;
}

}  // namespace

AttentionSpec read_attention(const Settings& config, std::int64_t hidden_size,
                             std::int64_t default_heads, const std::string& heads_key) {
  const std::int64_t heads = read_int(config, heads_key, 1, kMaxHeads, default_heads);
  return make_attention(heads, divided_among_heads(hidden_size, heads));
}

AttentionSpec read_attention_with_head_dim(const Settings& config, std::int64_t hidden_size,
                                           std::int64_t default_heads,
                                           std::optional<std::int64_t> default_head_dim) {
  const std::int64_t heads = read_int(config, "num_attention_heads", 1, kMaxHeads, default_heads);
  const auto head_dim = default_head_dim
                            ? read_int(config, "head_dim", 1, kMaxHeadDim, *default_head_dim)
                            : read_optional_int(config, "head_dim", 1, kMaxHeadDim);
  return make_attention(heads, head_dim ? *head_dim : divided_among_heads(hidden_size, heads));
}

std::vector<LayerRef> plain_layers(std::int64_t count, const AttentionSpec& attention,
                                   int first_weights) {
  std::vector<LayerRef> layers;
  for (std::int64_t i = 0; i < count; ++i)
    layers.push_back({first_weights + static_cast<int>(i), attention});
  return layers;
}

std::optional<std::vector<bool>> read_layer_types(const Settings& config, std::size_t count) {
  const Json& types = config.value("layer_types");
  if (types.is_null()) return std::nullopt;

  require(types.is_array() && types.size() == count, ErrorCode::kInvalidInput,
          "key \"layer_types\": needs one entry a layer");
  std::vector<bool> windowed;
  for (const Json& type : types) {
    const bool full = type == "full_attention" || type == "attention";
    require(full || type == "sliding_attention", ErrorCode::kUnsupported,
            "key \"layer_types\": ", type.dump(), " is not supported");
    windowed.push_back(!full);
  }
  return windowed;
}

void set_windows(std::vector<LayerRef>& layers, const std::vector<bool>& windowed,
                 std::optional<std::int64_t> window) {
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (!windowed[i]) continue;
    require(window.has_value(), ErrorCode::kInvalidInput, "key \"sliding_window\": layer ", i,
            " has a window, and none is set");
    layers[i].attention.sliding_window = *window;
  }
}

void read_special_ids(const Settings& config, ModelSpec& spec,
                      std::optional<std::int64_t> default_pad,
                      std::optional<std::int64_t> default_eos) {
  const std::int64_t pad =
      read_optional_int(config, "pad_token_id", -1, kMaxDim, default_pad).value_or(-1);
  spec.has_pad_token = pad >= 0;
  spec.pad_token_id = static_cast<std::int32_t>(std::max<std::int64_t>(pad, 0));

  if (!config.contains("eos_token_id")) {
    if (default_eos) spec.eos_token_ids.push_back(static_cast<std::int32_t>(*default_eos));
    return;
  }
  spec.eos_token_ids = read_token_ids(config, "eos_token_id");
}

std::vector<std::int32_t> read_token_ids(const Settings& config, const std::string& key) {
  const Json& found = config.value(key);
  if (found.is_null()) return {};

  std::vector<std::int32_t> ids;
  for (const Json& id : found.is_array() ? found : Json::array({found})) {
    require(id.is_number_integer() && id >= -1 && id <= kMaxDim, ErrorCode::kInvalidInput, "key \"",
            key, "\": must be a token id or a list of token ids");
    ids.push_back(id.get<std::int32_t>());
  }
  return ids;
}

std::int64_t num_labels(const Settings& config, std::int64_t fallback) {
  const Json& labels = config.value("id2label");
  const std::int64_t count =
      labels.is_object() ? static_cast<std::int64_t>(labels.size()) : fallback;
  return read_optional_int(config, "num_labels", 1, kMaxDim, count).value_or(count);
}

namespace {

[[noreturn]] void refuse_architecture(const std::string& architecture, const std::string& name) {
  throw Error(ErrorCode::kUnsupported,
              "architecture \"" + architecture + "\" is not supported for " + name);
}

}  // namespace

void set_decoder_head(ModelSpec& spec, const Settings& config, const std::string& name,
                      const std::string& lm_class) {
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

void add_decoder_head(std::vector<TensorRule>& rules, const ModelSpec& spec, const Settings& config,
                      bool tied_default, const std::string& module, bool bias) {
  if (spec.head == Head::kSequenceClassification) {
    rules.push_back({Slot::kClassifier, false, "score", {num_labels(config), spec.hidden_size}});
    return;
  }
  const Slot tied =
      read_bool(config, "tie_word_embeddings", tied_default) ? Slot::kWordEmbedding : Slot::kNone;
  rules.push_back(
      {Slot::kLmHead, false, module, {spec.vocab_size, spec.hidden_size}, true, bias, tied});
}

void set_encoder_head(ModelSpec& spec, const Settings& config, const std::string& name,
                      const std::vector<Step>& pooler, const std::vector<Step>& masked_lm) {
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
    rules.push_back(
        {Slot::kClassifier, false, classifier, {num_labels(config), spec.hidden_size}, true, true});
  if (spec.head == Head::kQuestionAnswering)
    rules.push_back({Slot::kClassifier, false, "qa_outputs", {2, spec.hidden_size}, true, true});
}

std::int64_t packed_row(const Packing& packing, std::int64_t row, std::int64_t rows) {
  if (packing.interleaved_heads == 0) return packing.part * rows + row;
  const std::int64_t head_dim = rows / packing.interleaved_heads;
  return (row / head_dim * packing.parts + packing.part) * head_dim + row % head_dim;
}

}  // namespace quell
