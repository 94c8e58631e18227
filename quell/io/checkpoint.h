// A Hugging Face model directory: config.json and safetensors shards.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "quell/io/model_directory.h"
#include "quell/io/safetensors.h"

namespace quell {

/// Owns the mapped shards; views stay valid while it lives.
class Checkpoint {
 public:
  /// Maps `dir`/model.safetensors, or the shards that model.safetensors.index.json names, and reads
  /// config.json. Throws Error(kIo | kInvalidInput | kUnsupported): a pickle (pytorch_model.bin) is
  /// refused with the way to convert it.
  static Checkpoint open(const ModelDirectory& dir);
  /// Of tensors that lie in no file.
  static Checkpoint in_memory(std::map<std::string, Tensor> tensors);

  /// The same tensors under another config.json, which is judged anew.
  Checkpoint with_config(Json config) const;
  /// The same checkpoint, but for tensors that are not looked at.
  Checkpoint without(const std::vector<std::string>& tensors) const;

  const std::filesystem::path& dir() const { return directory_.path(); }
  const ModelDirectory& directory() const { return directory_; }
  /// config.json; a key that is read counts as used (ModelDirectory::finish).
  const Settings& config() const { return config_; }
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  /// File that holds `name`, for messages.
  const std::string& source_of(const std::string& name) const { return sources_.at(name); }
  /// Bytes of all shards.
  std::uint64_t num_bytes() const;
  /// What was read leaves memory until it is read again.
  void drop_pages() const {
    for (const auto& shard : shards_) shard->drop_pages();
  }

 private:
  ModelDirectory directory_;
  Settings config_;
  std::vector<std::shared_ptr<SafetensorsFile>> shards_;
  std::shared_ptr<const std::map<std::string, Tensor>> held_;  ///< of in_memory
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> sources_;
};

/// With a transformers-5 config (`rope_parameters`, `dtype`) also in the transformers-4 keys
/// (`rope_theta`, `rope_scaling`, `torch_dtype`, `partial_rotary_factor`), for tools that know only
/// these. Keys already there win.
Json normalize_config(Json config);

}  // namespace quell
