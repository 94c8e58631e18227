// The directory of a model, whose settings are read through one place that remembers what was used.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "quell/io/settings.h"

namespace quell {

/// A Hugging Face model directory, and what was read of it so far. Copies share that record.
class ModelDirectory {
 public:
  ModelDirectory() : ModelDirectory(std::filesystem::path()) {}
  /// `accepted`: keys that the user takes responsibility for (--accept), in addition to those that config.json of a model that
  /// Quell wrote records.
  ModelDirectory(std::filesystem::path path, std::vector<std::string> accepted = {});       // NOLINT: a path is a directory
  ModelDirectory(const char* path) : ModelDirectory(std::filesystem::path(path)) {}         // NOLINT
  ModelDirectory(const std::string& path) : ModelDirectory(std::filesystem::path(path)) {}  // NOLINT

  const std::filesystem::path& path() const;
  /// Keys that are accepted here, those that config.json records included.
  const AcceptedKeys& accepted() const;
  /// To be called when everything has been opened: throws Error(kUsage) naming a key that the user accepted and that met nothing.
  void check_accepted() const;
  bool empty() const { return path().empty(); }
  std::string string() const { return path().string(); }

  bool has(const std::string& file) const;
  /// The settings in `file` ("tokenizer_config.json", "1_Pooling/config.json"). Throws Error(kIo | kInvalidInput).
  Settings read(const std::string& file) const;
  /// Without keys where there is no such file.
  Settings read_if_there(const std::string& file) const;

  /// To be called by whoever reads a file as a whole, when everything has been read: judges what is left over (judge_leftovers) and
  /// keeps the report.
  void finish(const Settings& settings, std::span<const KeyRule> rules) const;
  /// One for each finished file, the newest where a file was read again; by name.
  std::vector<FileReport> reports() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace quell
