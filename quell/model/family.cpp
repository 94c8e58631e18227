#include "quell/model/family.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/io/json.h"

namespace quell {

std::optional<Shape> ModelBuilder::stored_shape(const std::string& tensor) const {
  if (!checkpoint_) return std::nullopt;
  const auto found = checkpoint_->tensors().find(tensor);
  if (found == checkpoint_->tensors().end()) return std::nullopt;
  return found->second.shape();
}

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
bool has_value(const Config& config, const std::string& key) {
  require(!config.contains(key) || config.has(key), ErrorCode::kInvalidInput, "key \"",
          config.stored_key(key), "\": is null, which says nothing; leave it out for the default");
  return config.contains(key);
}

}  // namespace

std::int64_t read_int(const Config& config, const std::string& key, std::int64_t low,
                      std::int64_t high, std::int64_t fallback) {
  return has_value(config, key) ? json_int(config, key, low, high) : fallback;
}

double read_number(const Config& config, const std::string& key, double fallback) {
  return has_value(config, key) ? json_number(config, key, fallback) : fallback;
}

bool read_bool(const Config& config, const std::string& key, bool fallback) {
  return has_value(config, key) ? json_bool(config, key, fallback) : fallback;
}

std::string read_string(const Config& config, const std::string& key, const std::string& fallback) {
  return has_value(config, key) ? json_string(config, key, fallback) : fallback;
}

std::optional<std::int64_t> read_optional_int(const Config& config, const std::string& key,
                                              std::int64_t low, std::int64_t high,
                                              std::optional<std::int64_t> fallback) {
  if (!config.contains(key)) return fallback;
  if (config.value(key).is_null()) return std::nullopt;
  return json_int(config, key, low, high);
}

std::optional<double> read_optional_number(const Config& config, const std::string& key,
                                           std::optional<double> fallback) {
  if (!config.contains(key)) return fallback;
  if (config.value(key).is_null()) return std::nullopt;
  return json_number(config, key, 0);
}

std::string architecture_of(const Config& config) {
  const Json& names = config.value("architectures");
  return names.is_array() && !names.empty() && names.front().is_string()
             ? names.front().get<std::string>()
             : "";
}

ActivationKind read_activation(const Config& config, const std::string& key,
                               const std::string& fallback) {
  const std::string name = read_string(config, key, fallback);
  const auto kind = activation_from_name(name);
  require(kind.has_value(), ErrorCode::kUnsupported, "key \"", config.stored_key(key),
          "\": activation \"", name, "\" is not supported");
  return *kind;
}

namespace {

AttentionRecipe make_attention(std::int64_t num_heads, std::int64_t head_dim) {
  require(head_dim <= kMaxHeadDim, ErrorCode::kInvalidInput,
          "key \"num_attention_heads\": heads of ", head_dim, " dimensions are more than ",
          kMaxHeadDim);

  AttentionRecipe attention;
  attention.num_heads = attention.num_kv_heads = num_heads;
  attention.head_dim = head_dim;
  attention.scale = inverse_sqrt_of(static_cast<double>(head_dim));
  return attention;
}

std::int64_t divided_among_heads(std::int64_t hidden_size, std::int64_t heads) {
  require(hidden_size % heads == 0, ErrorCode::kInvalidInput,
          "key \"num_attention_heads\": ", heads, " does not divide hidden_size ", hidden_size);
  return hidden_size / heads;
}

}  // namespace

AttentionRecipe read_attention(const Config& config, std::int64_t hidden_size,
                               std::int64_t default_heads, const std::string& heads_key) {
  const std::int64_t heads = read_int(config, heads_key, 1, kMaxHeads, default_heads);
  return make_attention(heads, divided_among_heads(hidden_size, heads));
}

AttentionRecipe read_attention_with_head_dim(const Config& config, std::int64_t hidden_size,
                                             std::int64_t default_heads,
                                             std::optional<std::int64_t> default_head_dim) {
  const std::int64_t heads = read_int(config, "num_attention_heads", 1, kMaxHeads, default_heads);
  const auto head_dim = default_head_dim
                            ? read_int(config, "head_dim", 1, kMaxHeadDim, *default_head_dim)
                            : read_optional_int(config, "head_dim", 1, kMaxHeadDim);
  return make_attention(heads, head_dim ? *head_dim : divided_among_heads(hidden_size, heads));
}

std::int64_t read_num_layers(const Config& config, std::int64_t fallback) {
  return read_int(config, "num_hidden_layers", 1, kMaxLayers, fallback);
}

std::optional<std::vector<bool>> read_layer_types(const Config& config, std::int64_t count) {
  const Json& types = config.value("layer_types");
  if (types.is_null()) return std::nullopt;

  require(types.is_array() && static_cast<std::int64_t>(types.size()) == count,
          ErrorCode::kInvalidInput, "key \"layer_types\": needs one entry a layer");
  std::vector<bool> windowed;
  for (const Json& type : types) {
    const bool full = type == "full_attention" || type == "attention";
    require(full || type == "sliding_attention", ErrorCode::kUnsupported,
            "key \"layer_types\": ", type.dump(), " is not supported");
    windowed.push_back(!full);
  }
  return windowed;
}

std::vector<std::int64_t> windows_of(const std::vector<bool>& windowed,
                                     std::optional<std::int64_t> window) {
  std::vector<std::int64_t> windows;
  for (const bool has_window : windowed) {
    require(!has_window || window.has_value(), ErrorCode::kInvalidInput,
            "key \"sliding_window\": layer ", windows.size(), " has a window, and none is set");
    windows.push_back(has_window ? *window : 0);
  }
  return windows;
}

void read_special_ids(const Config& config, ModelSpec& spec,
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

std::vector<std::int32_t> read_token_ids(const Config& config, const std::string& key) {
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

std::int64_t num_labels(const Config& config, std::int64_t fallback) {
  const Json& labels = config.value("id2label");
  const std::int64_t count =
      labels.is_object() ? static_cast<std::int64_t>(labels.size()) : fallback;
  return read_optional_int(config, "num_labels", 1, kMaxDim, count).value_or(count);
}

void refuse_architecture(const std::string& architecture, const std::string& name) {
  throw Error(ErrorCode::kUnsupported,
              "architecture \"" + architecture + "\" is not supported for " + name);
}

std::string tied_to_table(const Config& config, const std::string& table, bool tied_default) {
  return read_bool(config, "tie_word_embeddings", tied_default) ? table : "";
}

void build_decoder_head(ModelBuilder& g, const Config& config, const std::string& name, ValueId h,
                        const DecoderHead& head) {
  const std::string architecture = architecture_of(config);
  const std::string lm_class = head.lm_class.empty() ? name + "ForCausalLM" : head.lm_class;
  g.output("last_hidden_state", h);
  g.begin_head();

  // Without a head the language model's is assumed: the config of a bare decoder is used for both.
  if (architecture.empty() || architecture == name + "Model" || architecture == lm_class) {
    g.spec.head = Head::kCausalLm;
    ValueId logits = g.linear("lm_head", head.module, h, g.spec.vocab_size,
                              {.bias = head.bias,
                               .role = Role::kLmHead,
                               .tied_to = tied_to_table(config, head.table, head.tied_default)});
    if (head.soft_cap > 0) logits = g.soft_cap(head.soft_cap, logits);
    g.output("logits", logits);
    return;
  }
  if (architecture != name + "ForSequenceClassification") refuse_architecture(architecture, name);

  g.spec.head = Head::kSequenceClassification;
  std::optional<std::int32_t> pad;
  if (g.spec.has_pad_token) pad = g.spec.pad_token_id;
  const ValueId last = g.select_last(h, pad);
  g.output("logits",
           g.linear("classifier", "score", last, num_labels(config), {.role = Role::kClassifier}));
}

void build_encoder_head(ModelBuilder& g, const Config& config, const std::string& name, ValueId h,
                        const EncoderHead& head) {
  const std::string architecture = architecture_of(config);
  const auto is = [&](const char* suffix) { return architecture == name + suffix; };
  const auto classify = [&](const std::string& module, ValueId x, std::int64_t classes) {
    return g.linear("classifier", module, x, classes, {.bias = true, .role = Role::kClassifier});
  };
  g.output("last_hidden_state", h);
  g.begin_head();

  if (architecture.empty() || is("Model")) {
    if (head.pooler) g.output("pooler_output", head.pooler(h));
  } else if (is("ForSequenceClassification")) {
    g.spec.head = Head::kSequenceClassification;
    const ValueId pooled = head.pooler(h);
    g.output("logits", classify(head.classifier, pooled, num_labels(config)));
  } else if (is("ForTokenClassification")) {
    g.spec.head = Head::kTokenClassification;
    g.output("logits", classify(head.classifier, h, num_labels(config)));
  } else if (is("ForQuestionAnswering")) {
    g.spec.head = Head::kQuestionAnswering;
    const ValueId scores = classify("qa_outputs", h, 2);
    g.output("start_logits", g.select_column(scores, 0));
    g.output("end_logits", g.select_column(scores, 1));
  } else if ((is("ForMaskedLM") || is("ForPreTraining")) && head.masked_lm) {
    g.spec.head = Head::kMaskedLm;
    g.output("logits", head.masked_lm(h));
  } else {
    refuse_architecture(architecture, name);
  }
}

}  // namespace quell
