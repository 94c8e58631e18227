#include "quell/io/checkpoint.h"

#include <set>

#include "quell/base/error.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

/// Shard names come from an untrusted index: plain file names only.
std::string checked_shard_name(const Json& value, const fs::path& index) {
  require(value.is_string(), ErrorCode::kInvalidInput, index.string(), ": weight_map holds a value that is not a string");
  const auto name = value.get<std::string>();
  const bool plain = !name.empty() && name.front() != '.' && name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
  require(plain, ErrorCode::kInvalidInput, index.string(), ": shard name \"", name, "\" is not a plain file name");
  return name;
}

}  // namespace

Json normalize_config(Json config) {
  if (config.contains("rope_parameters") && config["rope_parameters"].is_object()) {
    const Json rope = config["rope_parameters"];
    for (const char* key : {"rope_theta", "partial_rotary_factor"})
      if (rope.contains(key) && !config.contains(key)) config[key] = rope[key];
    const std::string type = json_string(rope, "rope_type", "default");
    if (type != "default" && (!config.contains("rope_scaling") || config["rope_scaling"].is_null())) config["rope_scaling"] = rope;
  }
  if (config.contains("dtype") && !config.contains("torch_dtype")) config["torch_dtype"] = config["dtype"];
  return config;
}

Checkpoint Checkpoint::open(const ModelDirectory& directory) {
  const fs::path& dir = directory.path();
  std::error_code ec;
  require(fs::is_directory(dir, ec), ErrorCode::kIo, dir.string(), ": not a directory; expected a Hugging Face model directory");
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  require(fs::exists(dir / "config.json", ec), ErrorCode::kIo, (dir / "config.json").string(),
          ": missing; expected a Hugging Face model directory");
  const Settings config = directory.read("config.json");
  checkpoint.config_ = Settings(normalize_config(config.json()), config.file(), directory.accepted());

  std::map<std::string, std::set<std::string>> shards;  // file -> tensors expected in it
  if (fs::exists(dir / kSingle, ec)) {
    shards[kSingle];
  } else if (fs::exists(dir / kIndex, ec)) {
    const Json index = read_json_file(dir / kIndex);
    require(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object(), ErrorCode::kInvalidInput,
            (dir / kIndex).string(), ": no weight_map");
    for (const auto& [tensor, file] : index["weight_map"].items()) shards[checked_shard_name(file, dir / kIndex)].insert(tensor);
  } else {
    for (const auto& entry : fs::directory_iterator(dir, ec))
      require(entry.path().extension() != ".bin" && entry.path().extension() != ".pt", ErrorCode::kUnsupported,
              entry.path().string(),
              ": a pickle can run code when it is read; convert it first with transformers: "
              "AutoModel.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True)");
    throw Error(ErrorCode::kIo, (dir / kSingle).string() + ": missing");
  }
  for (const auto& [file, expected] : shards) {
    auto shard = std::make_shared<SafetensorsFile>(dir / file);
    for (const auto& [name, view] : shard->tensors()) {
      require(checkpoint.tensors_.emplace(name, view).second, ErrorCode::kInvalidInput, shard->source(), ": tensor \"", name,
              "\" is also in another shard");
      checkpoint.sources_[name] = shard->source();
    }
    for (const std::string& name : expected)
      require(shard->has(name), ErrorCode::kInvalidInput, shard->source(), ": tensor \"", name,
              "\" that the index promises is missing");
    checkpoint.shards_.push_back(std::move(shard));
  }
  return checkpoint;
}

std::uint64_t Checkpoint::num_bytes() const {
  std::uint64_t total = 0;
  for (const auto& [name, view] : tensors_) total += view.num_bytes();
  return total;
}

}  // namespace quell
