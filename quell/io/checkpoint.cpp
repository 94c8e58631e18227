#include "quell/io/checkpoint.h"

#include <set>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/json.h"
#include "quell/io/quantization_config.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

/// Shard names come from an untrusted index: plain file names only.
std::string checked_shard_name(const Json& value, const fs::path& index) {
  require(value.is_string(), ErrorCode::kInvalidInput, index.string(),
          ": weight_map holds a value that is not a string");
  const auto name = value.get<std::string>();
  const bool plain = !name.empty() && name.front() != '.' &&
                     name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
  require(plain, ErrorCode::kInvalidInput, index.string(), ": shard name \"", name,
          "\" is not a plain file name");
  return name;
}

/// transformers loads the adapter that lies in a directory; the weights beside it are not the model
/// that was trained.
void refuse_adapter(const ModelDirectory& directory) {
  constexpr const char* kAdapter = "adapter_config.json";
  if (!directory.has(kAdapter) || directory.accepted().accepts(kAdapter)) return;

  throw Error(
      ErrorCode::kUnsupported,
      (directory.path() / kAdapter).string() +
          ": adapters are not applied; merge it into the model first (peft: merge_and_unload), or "
          "--accept adapter_config.json to go on without it");
}

/// Copies of the weights are common, and so are mistakes about which of them counts. Variants
/// ("model.fp16.safetensors") are asked for by name in transformers, so they do no harm.
void report_other_weights(const fs::path& dir, const std::set<std::string>& read) {
  std::error_code ec;
  std::set<std::string> others;
  for (const auto& entry : fs::directory_iterator(dir, ec)) {
    const std::string name = entry.path().filename().string();
    const bool shard = name.starts_with("model-") || name.starts_with("consolidated") ||
                       name.starts_with("pytorch_model");
    if (shard && name.ends_with(".safetensors") && !read.contains(name)) others.insert(name);
    if (name == kIndex && read.contains(kSingle)) others.insert(name);
  }
  if (others.empty()) return;

  std::string names;
  for (const std::string& name : others) names += (names.empty() ? "" : ", ") + name;
  log_once(LogLevel::kWarning, dir.string() + ": " + names + ": not read; the weights are in " +
                                   *read.begin() +
                                   (read.size() > 1 ? " and the other files of its index" : ""));
}

}  // namespace

Json normalize_config(Json config) {
  if (config.contains("rope_parameters") && config["rope_parameters"].is_object()) {
    const Json rope = config["rope_parameters"];
    for (const char* key : {"rope_theta", "partial_rotary_factor"})
      if (rope.contains(key) && !config.contains(key)) config[key] = rope[key];
    const std::string type = json_string(rope, "rope_type", "default");
    if (type != "default" && (!config.contains("rope_scaling") || config["rope_scaling"].is_null()))
      config["rope_scaling"] = rope;
  }
  if (config.contains("dtype") && !config.contains("torch_dtype"))
    config["torch_dtype"] = config["dtype"];
  return config;
}

Checkpoint Checkpoint::with_config(Json config) const {
  Checkpoint out = *this;
  out.config_ = Settings(std::move(config), config_.file(), directory_.accepted());
  return out;
}

Checkpoint Checkpoint::without(const std::vector<std::string>& tensors) const {
  Checkpoint out = *this;
  for (const std::string& name : tensors) out.tensors_.erase(name);
  return out;
}

Checkpoint Checkpoint::in_memory(std::map<std::string, Tensor> tensors) {
  Checkpoint checkpoint;
  checkpoint.held_ = std::make_shared<const std::map<std::string, Tensor>>(std::move(tensors));
  for (const auto& [name, tensor] : *checkpoint.held_) {
    checkpoint.tensors_.emplace(name, tensor.view());
    checkpoint.sources_.emplace(name, "model in memory");
  }
  return checkpoint;
}

Checkpoint Checkpoint::open(const ModelDirectory& directory) {
  const fs::path& dir = directory.path();
  std::error_code ec;
  require(fs::is_directory(dir, ec), ErrorCode::kIo, dir.string(),
          ": not a directory; expected a Hugging Face model directory");
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  refuse_adapter(directory);
  // A model that was never published by way of Hugging Face, in its authors' form.
  const bool is_lstr = !directory.has("config.json") && directory.has("LSTR.json");
  const char* config = is_lstr ? "LSTR.json" : "config.json";
  require(fs::exists(dir / config, ec), ErrorCode::kIo, (dir / config).string(),
          ": missing; expected a Hugging Face model directory");
  checkpoint.config_ = directory.read(config);
  try {
    check_quantization_config(checkpoint.config_);
  } catch (const Error& e) {
    throw Error(e.code(), checkpoint.config_.file() + ": " + e.what());
  }

  std::map<std::string, std::set<std::string>> shards;  // file -> tensors expected in it
  if (fs::exists(dir / kSingle, ec)) {
    shards[kSingle];
  } else if (fs::exists(dir / kIndex, ec)) {
    const Json index = read_json_file(dir / kIndex);
    require(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object(),
            ErrorCode::kInvalidInput, (dir / kIndex).string(), ": no weight_map");
    for (const auto& [tensor, file] : index["weight_map"].items())
      shards[checked_shard_name(file, dir / kIndex)].insert(tensor);
  } else {
    for (const auto& entry : fs::directory_iterator(dir, ec))
      require(entry.path().extension() != ".bin" && entry.path().extension() != ".pt",
              ErrorCode::kUnsupported, entry.path().string(),
              ": a pickle can run code when it is read; convert it first with transformers: "
              "AutoModel.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True)");
    throw Error(ErrorCode::kIo, (dir / kSingle).string() + ": missing");
  }
  for (const auto& [file, expected] : shards) {
    auto shard = std::make_shared<SafetensorsFile>(dir / file);
    for (const auto& [name, view] : shard->tensors()) {
      require(checkpoint.tensors_.emplace(name, view).second, ErrorCode::kInvalidInput,
              shard->source(), ": tensor \"", name, "\" is also in another shard");
      checkpoint.sources_[name] = shard->source();
    }
    for (const std::string& name : expected)
      require(shard->has(name), ErrorCode::kInvalidInput, shard->source(), ": tensor \"", name,
              "\" that the index promises is missing");
    checkpoint.shards_.push_back(std::move(shard));
  }

  std::set<std::string> read;
  for (const auto& [file, expected] : shards) read.insert(file);
  report_other_weights(dir, read);
  return checkpoint;
}

std::uint64_t Checkpoint::num_bytes() const {
  std::uint64_t total = 0;
  for (const auto& [name, view] : tensors_) total += view.num_bytes();
  return total;
}

}  // namespace quell
