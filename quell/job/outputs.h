// What a command reads and where it writes, checked against each other before any work.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "quell/io/json_fwd.h"
#include "quell/io/output_file.h"

namespace quell {

/// Folders of images may stand where other data are a file.
enum class FolderUse { kRefused, kAllowed };

/// Throws Error(kIo) where `file` is missing, or a folder that is refused; `argument` says which it
/// is ("--data").
void check_input_file(const std::filesystem::path& file, const std::string& argument,
                      FolderUse folder = FolderUse::kRefused);

/// Throws Error(kUsage) where writing `output` (a file, or a folder and all that is in it) would
/// replace one of `inputs`, files or model folders, or what they link to. Inputs that are empty or
/// missing do not count.
void keep_inputs(const std::filesystem::path& output,
                 const std::vector<std::filesystem::path>& inputs);

/// As keep_inputs, for an output folder, which must not lie in a model folder either: the next run
/// would take it for a part of it.
void keep_input_folders(const std::filesystem::path& output,
                        const std::vector<std::filesystem::path>& inputs);

/// Throws Error(kUsage) where the file and another output (a file; or a folder, with what lies in
/// it and its journal) are one.
void keep_apart(const std::filesystem::path& file, const std::filesystem::path& output);

/// Where the journal of a run that writes `output` lies.
std::filesystem::path journal_beside(const std::filesystem::path& output);

/// The file of --json, opened before any work: "" is none, "-" and names of the standard output are
/// that.
class JsonFile {
 public:
  explicit JsonFile(const std::string& path);
  bool is_standard_output() const { return standard_output_; }
  /// Indented, and complete; once.
  void write(const Json& json);

 private:
  bool standard_output_ = false;
  std::unique_ptr<OutputFile> file_;
};

/// Whether writing to `path` writes to the standard output: "-", /dev/stdout, /dev/fd/1.
bool names_standard_output(const std::filesystem::path& path);

}  // namespace quell
