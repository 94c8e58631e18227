// The directory of a model, whose settings are read through one place that remembers what was used.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "quell/io/settings.h"

namespace quell {

/// A Hugging Face model directory, and what was read of it so far. Copies share that record.
/// sentence-transformers may keep the model in a folder of its own ("0_Transformer"), which
/// modules.json names: then `path()` is that folder, and `root()` the one around it.
class ModelDirectory {
 public:
  ModelDirectory() : ModelDirectory(std::filesystem::path()) {}
  /// `accepted`: keys that the user takes responsibility for (--accept), in addition to those that
  /// config.json of a model that Quell wrote records.
  ModelDirectory(std::filesystem::path path,
                 std::vector<std::string> accepted = {});  // NOLINT: a path is a directory
  ModelDirectory(const char* path) : ModelDirectory(std::filesystem::path(path)) {}  // NOLINT
  ModelDirectory(const std::string& path)
      : ModelDirectory(std::filesystem::path(path)) {}  // NOLINT

  const std::filesystem::path& path() const;
  /// Where modules.json and the folders of modules lie; elsewhere the same as path().
  const std::filesystem::path& root() const;
  /// Keys that are accepted here, those that config.json records included.
  const AcceptedKeys& accepted() const;
  /// To be called when everything has been opened: throws Error(kUsage) naming a key that the user
  /// accepted and that met nothing.
  void check_accepted() const;
  bool empty() const { return path().empty(); }
  std::string string() const { return path().string(); }

  bool has(const std::string& file) const;
  /// Whether it is a directory of sentence-transformers.
  bool has_modules() const;
  /// The settings in `file` ("tokenizer_config.json", "1_Pooling/config.json"). Throws Error(kIo |
  /// kInvalidInput).
  Settings read(const std::string& file) const;
  /// Without keys where there is no such file.
  Settings read_if_there(const std::string& file) const;
  /// As read(), of a file below root().
  Settings read_at_root(const std::string& file) const;
  /// A file below root() that holds a list instead of an object: the object {`name`: list}.
  Settings read_list_at_root(const std::string& file, const std::string& name) const;

  /// To be called by whoever reads a file as a whole, when everything has been read: judges what is
  /// left over (judge_leftovers) and keeps the report.
  void finish(const Settings& settings, std::span<const KeyRule> rules) const;
  /// To be called by whoever reads more of a file that another has finished: what was left over
  /// there is not, if it has been read now.
  void read_too(const Settings& settings) const;
  /// One for each finished file, the newest where a file was read again; by name.
  std::vector<FileReport> reports() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace quell
