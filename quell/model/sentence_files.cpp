#include "quell/model/sentence_files.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/json.h"
#include "quell/io/safetensors.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

using Effect = KeyRule::Effect;

constexpr KeyRule kModulesRules[] = {{"modules.*.idx"}, {"modules.*.kwargs"}};

constexpr KeyRule kModelRules[] = {{"__version__"}, {"requirements"}, {"keep_in_fp32_modules"}};

/// Of sentence_bert_config.json. The sections hold what is handed to transformers.
constexpr KeyRule kTransformerRules[] = {
    {"unpad_inputs"},
    {"*_kwargs.text.padding"},
    {"*_kwargs.text.truncation", Effect::kChangesResults, "[null, true, \"longest_first\"]",
     "texts that are not cut"},
    {"*.padding_side"},
    {"*.torch_dtype"},
    {"*.dtype"},
    {"*.attn_implementation"},
    {"*.use_memory_efficient_attention"},
    {"*.trust_remote_code"},
    {"*.revision"},
    {"*.use_fast"},
    {"*.add_pooling_layer"},
    {"tokenizer_name_or_path", Effect::kChangesResults, "[null]", "the tokenizer of another model"},
    {"query_length", Effect::kChangesResults, "[null]", "a length of queries of their own"},
    {"document_length", Effect::kChangesResults, "[null]", "a length of documents of their own"},
    {"query_expansion", Effect::kChangesResults, "[null]", "queries filled up with mask tokens"},
    {"*_kwargs.*", Effect::kChangesResults, "[null, {}]",
     "a setting that is handed to transformers"},
    {"*_args.*", Effect::kChangesResults, "[null, {}]", "a setting that is handed to transformers"},
};

/// What `read` returns; its errors name the file.
template <typename Read>
auto in_file(const Settings& settings, Read read) {
  try {
    return read();
  } catch (const Error& e) {
    throw Error(e.code(), settings.file() + ": " + e.what());
  }
}

/// The value names of modules.
std::optional<SentenceValue> value_from_name(const std::string& name) {
  if (name == "token_embeddings") return SentenceValue::kTokens;
  if (name == "sentence_embedding") return SentenceValue::kSentence;
  return std::nullopt;
}

std::string last_part(const std::string& dotted) { return dotted.substr(dotted.rfind('.') + 1); }

/// Reads `key` as torch's name of an activation: its last part. "" where it has to be refused and
/// was accepted.
std::string read_activation_name(const Settings& settings, const std::string& key,
                                 const std::string& fallback) {
  if (!settings.contains(key)) return fallback;

  const Json& value = settings.value(key);
  const std::string full = value.is_string() ? value.get<std::string>() : "";
  const std::string name = last_part(full);
  if (full.starts_with("torch.nn.") && element_function(name)) return name;
  settings.refuse(key, "an activation function that Quell does not have");
  return fallback;
}

PoolingModule read_pooling(const Settings& settings, std::int64_t hidden_size) {
  // In the order of their concatenation. Newer files name the modes instead; then flags do not
  // count.
  constexpr std::pair<const char*, PoolingMode> kFlags[] = {
      {"pooling_mode_cls_token", PoolingMode::kCls},
      {"pooling_mode_max_tokens", PoolingMode::kMax},
      {"pooling_mode_mean_tokens", PoolingMode::kMean},
      {"pooling_mode_mean_sqrt_len_tokens", PoolingMode::kMeanSqrtLength},
      {"pooling_mode_weightedmean_tokens", PoolingMode::kWeightedMean},
      {"pooling_mode_lasttoken", PoolingMode::kLastToken}};

  PoolingModule pooling;
  for (const auto& [key, mode] : kFlags)
    if (json_bool(settings, key, false)) pooling.modes.push_back(mode);

  if (settings.contains("pooling_mode")) {
    pooling.modes.clear();
    const Json& value = settings.value("pooling_mode");
    for (const Json& name : value.is_array() ? value : Json::array({value})) {
      const auto mode =
          name.is_string() ? pooling_mode_from_name(name.get<std::string>()) : std::nullopt;
      if (!mode)
        throw Error(ErrorCode::kUnsupported, "key \"pooling_mode\": " + name.dump() +
                                                 " is not a mode that sentence-transformers has");
      pooling.modes.push_back(*mode);
    }
  }
  if (pooling.modes.empty()) pooling.modes = {PoolingMode::kMean};

  pooling.include_prompt = json_bool(settings, "include_prompt", true);
  const char* size_key =
      settings.contains("embedding_dimension") ? "embedding_dimension" : "word_embedding_dimension";
  const std::int64_t size = json_int(settings, size_key, 0, 1 << 24, hidden_size);
  if (size != hidden_size)
    log_once(LogLevel::kWarning,
             str(settings.file(), ": key \"", size_key, "\" is ", size,
                 ", the rows of tokens have ", hidden_size, " dimensions, which are used"));
  return pooling;
}

Tensor read_tensor(const SafetensorsFile& file, const std::string& name, const Shape& shape) {
  const TensorView& view = file.at(name);
  require(view.shape() == shape, ErrorCode::kInvalidInput, file.source(), ": tensor \"", name,
          "\" has shape ", view.shape().to_string(), ", config.json says ", shape.to_string());
  return to_f32(view, name);
}

/// The weights of a module; `names` are all that it may hold.
SafetensorsFile open_weights(const fs::path& folder, const std::vector<std::string>& names) {
  std::error_code ec;
  require(
      fs::exists(folder / "model.safetensors", ec) || !fs::exists(folder / "pytorch_model.bin", ec),
      ErrorCode::kUnsupported, (folder / "pytorch_model.bin").string(),
      ": a pickle can run code when it is read; convert it first with sentence-transformers: "
      "SentenceTransformer(DIR).save(DIR)");
  SafetensorsFile file(folder / "model.safetensors");
  for (const auto& [name, view] : file.tensors())
    require(std::find(names.begin(), names.end(), name) != names.end(), ErrorCode::kInvalidInput,
            file.source(), ": tensor \"", name, "\" does not belong to this module");
  return file;
}

class PipelineReader {
 public:
  PipelineReader(const ModelDirectory& directory, const ModelSpec& spec, const Graph& graph)
      : directory_(directory), spec_(spec), graph_(graph), token_size_(spec.hidden_size) {}

  SentencePipeline read() {
    const Settings file = directory_.read_list_at_root("modules.json", "modules");
    note_file("modules.json");

    bool embeds = true;
    const std::vector<Entry> entries = in_file(file, [&] { return read_entries(file); });
    for (const Entry& entry : entries) embeds = add(entry) && embeds;
    directory_.finish(file, kModulesRules);
    read_model_settings();

    if (!embeds) out_.modules.clear();
    if (!out_.modules.empty()) check(file.file());
    return std::move(out_);
  }

 private:
  struct Entry {
    std::string module, folder;  ///< name of the class, "" where the module was accepted as one
                                 ///< that Quell does not have
  };

  std::vector<Entry> read_entries(const Settings& file) const {
    const bool encoder_decoder = graph_.is_encoder_decoder() && graph_.has(op_relative_bias);
    constexpr std::string_view kKnown[] = {"Transformer", "Pooling", "Dense",     "Normalize",
                                           "LayerNorm",   "Dropout", "LogitScore"};

    std::vector<Entry> entries;
    std::vector<std::string> names;
    for (const Settings& entry : file.sections("modules")) {
      names.push_back(json_string(entry, "name", ""));
      require(std::count(names.begin(), names.end(), names.back()) == 1, ErrorCode::kInvalidInput,
              "two modules are named \"", names.back(), '"');
      const fs::path path = json_string(entry, "path", "");
      const bool below =
          path.empty() || (path.is_relative() && *path.lexically_normal().begin() != "..");
      require(below, ErrorCode::kInvalidInput, "path \"", path.string(),
              "\" leads out of the model's directory");

      const std::string type = json_string(entry, "type", "");
      std::string module = type.starts_with("sentence_transformers.") ? last_part(type) : "";
      const bool known =
          std::find(std::begin(kKnown), std::end(kKnown), module) != std::end(kKnown);
      const bool in_place = (module == "Transformer") == entries.empty();
      if (!known || !in_place) {
        entry.refuse("type", known ? "in this place of the list a module that Quell does not run"
                                   : "a module that Quell does not have; it has Transformer, "
                                     "Pooling, Dense, Normalize, LayerNorm and "
                                     "Dropout");
        module = "";
      } else if (module == "Pooling" && encoder_decoder) {
        entry.refuse("type", "pooling over the encoder of an encoder-decoder model");
        module = "";
      }
      entries.push_back({module, path.string()});
    }
    return entries;
  }

  /// False: what comes of the module is no sentence embedding.
  bool add(const Entry& entry) {
    if (entry.module == "Dropout") note_file(entry.folder + "/config.json");
    if (entry.module == "Pooling") add_pooling(entry.folder);
    if (entry.module == "Dense") add_dense(entry.folder);
    if (entry.module == "Normalize") add_normalize(entry.folder);
    if (entry.module == "LayerNorm") add_layer_norm(entry.folder);
    return !entry.module.empty() && entry.module != "LogitScore";
  }

  void note_file(const std::string& file) {
    std::error_code ec;
    if (fs::exists(directory_.root() / file, ec)) out_.files.push_back(file);
  }

  Settings read_config(const std::string& folder) {
    note_file(folder + "/config.json");
    return directory_.read_at_root(folder + "/config.json");
  }

  Settings read_config_if_there(const std::string& folder) {
    std::error_code ec;
    const std::string file = folder + "/config.json";
    const bool there = !folder.empty() && fs::exists(directory_.root() / file, ec);
    return there ? read_config(folder) : Settings();
  }

  void add_pooling(const std::string& folder) {
    const Settings config = read_config(folder);
    out_.modules.push_back(in_file(config, [&] { return read_pooling(config, token_size_); }));
    directory_.finish(config, {});
  }

  SentenceValue read_value(const Settings& config, const std::string& key,
                           SentenceValue fallback) const {
    if (!config.has(key)) {
      config.value(key);
      return fallback;
    }
    const auto value = value_from_name(json_string(config, key, ""));
    if (!value) config.refuse(key, "a value that Quell's modules do not have");
    return value.value_or(fallback);
  }

  void add_dense(const std::string& folder) {
    const Settings config = read_config(folder);
    DenseModule dense;
    std::int64_t in = 0, out = 0;
    const bool has_bias = in_file(config, [&] {
      in = json_int(config, "in_features", 1, 1 << 24);
      out = json_int(config, "out_features", 1, 1 << 24);
      dense.adds_input = json_bool(config, "use_residual", false);
      dense.activation = read_activation_name(config, "activation_function", "Tanh");
      dense.in = read_value(config, "module_input_name", SentenceValue::kSentence);
      dense.out = read_value(config, "module_output_name", dense.in);
      return json_bool(config, "bias", true);
    });
    directory_.finish(config, {});

    const SafetensorsFile file = open_weights(directory_.root() / folder,
                                              {"linear.weight", "linear.bias", "residual.weight"});
    note_file(folder + "/model.safetensors");
    dense.weight = read_tensor(file, "linear.weight", {out, in});
    require(file.has("linear.bias") == has_bias, ErrorCode::kInvalidInput, file.source(),
            ": tensor \"linear.bias\" is ",
            has_bias ? "missing, and config.json says that there is one"
                     : "there, and config.json says \"bias\": false");
    if (has_bias) dense.bias = read_tensor(file, "linear.bias", {out});
    const bool projects = dense.adds_input && in != out;
    require(file.has("residual.weight") == projects, ErrorCode::kInvalidInput, file.source(),
            ": tensor \"residual.weight\" is ",
            projects ? "missing" : "there, and config.json has no use for it");
    if (projects) dense.projection = read_tensor(file, "residual.weight", {out, in});
    if (dense.out == SentenceValue::kTokens) token_size_ = out;
    out_.modules.push_back(std::move(dense));
  }

  void add_normalize(const std::string& folder) {
    const Settings config = read_config_if_there(folder);
    out_.modules.push_back(in_file(config, [&] {
      NormalizeModule normalize;
      normalize.in = read_value(config, "module_input_name", SentenceValue::kSentence);
      normalize.out = read_value(config, "module_output_name", normalize.in);
      return normalize;
    }));
    if (!config.file().empty()) directory_.finish(config, {});
  }

  void add_layer_norm(const std::string& folder) {
    const Settings config = read_config(folder);
    const std::int64_t size =
        in_file(config, [&] { return json_int(config, "dimension", 1, 1 << 24); });
    directory_.finish(config, {});

    const SafetensorsFile file =
        open_weights(directory_.root() / folder, {"norm.weight", "norm.bias"});
    note_file(folder + "/model.safetensors");
    out_.modules.push_back(LayerNormModule{read_tensor(file, "norm.weight", {size}),
                                           read_tensor(file, "norm.bias", {size})});
  }

  /// config_sentence_transformers.json.
  void read_model_settings() {
    constexpr const char* kFile = "config_sentence_transformers.json";
    std::error_code ec;
    if (!fs::exists(directory_.root() / kFile, ec)) return;
    note_file(kFile);
    const Settings settings = directory_.read_at_root(kFile);
    in_file(settings, [&] {
      read_model_settings(settings);
      return true;
    });
    directory_.finish(settings, kModelRules);
  }

  void read_model_settings(const Settings& settings) {
    const std::string type = json_string(settings, "model_type", "SentenceTransformer");
    if (type != "SentenceTransformer" && type != "CrossEncoder")
      settings.refuse("model_type", "a kind of model that Quell does not have");
    const Json& prompts = settings.value("prompts");
    require(prompts.is_null() || prompts.is_object(), ErrorCode::kInvalidInput,
            "key \"prompts\" is not an object");
    for (const auto& [name, prompt] : prompts.items()) {
      require(prompt.is_string() || prompt.is_null(), ErrorCode::kInvalidInput, "prompt \"", name,
              "\" is not a string");
      out_.prompts[name] = prompt.is_null() ? "" : prompt.get<std::string>();
    }
    // sentence-transformers has these two at all times.
    out_.prompts.try_emplace("query", "");
    out_.prompts.try_emplace("document", "");
    out_.default_prompt = json_string(settings, "default_prompt_name", "");
    require(out_.default_prompt.empty() || out_.prompts.contains(out_.default_prompt),
            ErrorCode::kInvalidInput, "key \"default_prompt_name\": there is no prompt \"",
            out_.default_prompt, '"');

    const std::string similarity = json_string(settings, "similarity_fn_name", "cosine");
    const auto kind = similarity_from_name(similarity);
    if (!kind) settings.refuse("similarity_fn_name", "a similarity that Quell does not have");
    out_.similarity = kind.value_or(Similarity::kCosine);
    out_.truncate_dim = json_int(settings, "truncate_dim", 0, 1 << 24, 0);
    if (settings.has("activation_fn"))
      out_.score_activation = read_activation_name(settings, "activation_fn", "");
    settings.value("activation_fn");
  }

  void check(const std::string& file) const {
    try {
      check_pipeline(out_, spec_.hidden_size);
    } catch (const Error& e) {
      throw Error(e.code(), file + ": " + e.what());
    }
  }

  const ModelDirectory& directory_;
  const ModelSpec& spec_;
  const Graph& graph_;
  std::int64_t token_size_;  ///< of a token's row, behind the modules so far
  SentencePipeline out_;
};

/// What the Transformer module hands on, and how it reads text.
void check_transformer_output(const Settings& settings) {
  const std::string task = json_string(settings, "transformer_task", "feature-extraction");
  const bool known = task == "feature-extraction" || task == "sequence-classification" ||
                     task == "text-generation";
  if (!known) settings.refuse("transformer_task", "another use of the transformer than Quell's");

  const Settings modalities = settings.section("modality_config");
  if (task == "feature-extraction") {
    if (modalities.has("message"))
      modalities.refuse("message", "texts that go through the chat template");
    const Settings text = modalities.section("text");
    const std::string method = json_string(text, "method", "forward");
    if (method != "forward") text.refuse("method", "another method of the transformer");
    const Json& output = text.value("method_output_name");
    const bool hidden = output.is_null() || output == "last_hidden_state" ||
                        output == Json::array({"last_hidden_state"});
    if (!hidden)
      text.refuse("method_output_name",
                  "another output of the transformer than its last hidden state");
    const std::string name = json_string(settings, "module_output_name", "token_embeddings");
    if (name != "token_embeddings")
      settings.refuse("module_output_name",
                      "another output of the transformer than one row a token");
  }
  // Images, sounds and the outputs of other tasks have no text to be read otherwise.
  settings.value("modality_config");
  settings.value("module_output_name");
}

/// A length in tokens under `key`; 0 where there is none, or one that stands for no limit.
std::int64_t read_length(const Settings& settings, const std::string& key) {
  constexpr double kNoLimit = 1 << 30;

  const double value = json_number(settings, key, 0);
  require(value >= 0, ErrorCode::kInvalidInput, "key \"", key, "\": ", value, " is not a length");
  return value < kNoLimit ? static_cast<std::int64_t>(value) : 0;
}

/// What the tokenizer's file says about texts that are too long.
TextSettings read_tokenizer_limits(const ModelDirectory& directory) {
  const Settings settings = directory.read_if_there("tokenizer_config.json");
  return in_file(settings, [&] {
    TextSettings text;
    text.max_length = read_length(settings, "model_max_length");
    if (text.max_length == 0) text.max_length = read_length(settings, "max_len");

    const std::string side = json_string(settings, "truncation_side", "");
    require(side.empty() || side == "left" || side == "right", ErrorCode::kInvalidInput,
            "key \"truncation_side\": \"", side, "\" is neither left nor right");
    if (!side.empty()) text.truncate_left = side == "left";
    return text;
  });
}

/// sentence_bert_config.json, which has older names.
void read_transformer_settings(const ModelDirectory& directory, TextSettings& text) {
  constexpr const char* kNames[] = {"bert",   "roberta",     "distilbert", "camembert",
                                    "albert", "xlm-roberta", "xlnet"};

  for (const char* name : kNames) {
    const std::string file = "sentence_" + std::string(name) + "_config.json";
    if (!directory.has(file)) continue;
    const Settings settings = directory.read(file);
    if (settings.json().empty()) continue;

    in_file(settings, [&] {
      text.lower_case = json_bool(settings, "do_lower_case", false);
      check_transformer_output(settings);

      // In the order in which the next one wins.
      std::vector<std::int64_t> lengths = {read_length(settings, "max_seq_length")};
      for (const char* section : {"tokenizer_args", "processor_kwargs"})
        lengths.push_back(read_length(settings.section(section), "model_max_length"));
      lengths.push_back(
          read_length(settings.section("processing_kwargs").section("text"), "max_length"));
      for (const std::int64_t length : lengths)
        if (length > 0) text.max_length = length;
      for (const char* section : {"model_args", "model_kwargs", "config_args", "config_kwargs"})
        settings.section(section);
      return true;
    });
    directory.finish(settings, kTransformerRules);
    return;
  }
}

/// A 1_Pooling that no modules.json names: sentence-transformers does not read it and takes the
/// mean.
SentencePipeline read_pooling_alone(const ModelDirectory& directory, std::int64_t hidden_size) {
  const Settings config = directory.read_at_root("1_Pooling/config.json");
  const PoolingModule pooling = in_file(config, [&] { return read_pooling(config, hidden_size); });
  directory.finish(config, {});

  const bool is_mean = pooling.modes == std::vector{PoolingMode::kMean};
  require(is_mean, ErrorCode::kUnsupported, config.file(),
          ": there is no modules.json, without which sentence-transformers would ignore this file "
          "and take the mean over tokens; add "
          "modules.json, or remove the folder");
  SentencePipeline out;
  out.modules.push_back(PoolingModule{{PoolingMode::kMean}});
  out.files = {"1_Pooling/config.json"};
  return out;
}

}  // namespace

SentenceFiles read_sentence_files(const ModelDirectory& directory, const ModelSpec& spec,
                                  const Graph& graph) {
  SentenceFiles out;
  out.text = read_tokenizer_limits(directory);

  std::error_code ec;
  out.has_modules = directory.has_modules();
  if (out.has_modules) {
    out.pipeline = PipelineReader(directory, spec, graph).read();
    read_transformer_settings(directory, out.text);
    return out;
  }

  if (fs::exists(directory.root() / "1_Pooling" / "config.json", ec))
    out.pipeline = read_pooling_alone(directory, spec.hidden_size);
  for (const char* file : {"sentence_bert_config.json", "config_sentence_transformers.json"})
    if (directory.has(file))
      log_once(LogLevel::kWarning,
               (directory.path() / file).string() +
                   ": not read, as in sentence-transformers, because there is no modules.json");
  return out;
}

SentencePipeline default_pipeline(const Json& config) {
  const Json architectures = config.value("architectures", Json::array());
  const std::string architecture =
      architectures.is_array() && !architectures.empty() && architectures[0].is_string()
          ? architectures[0].get<std::string>()
          : "";
  const bool causal = architecture.ends_with("ForCausalLM") && json_bool(config, "is_causal", true);
  SentencePipeline out;
  out.modules.push_back(PoolingModule{{causal ? PoolingMode::kLastToken : PoolingMode::kMean}});
  return out;
}

}  // namespace quell
