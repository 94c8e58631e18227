#include "quell/job/outputs.h"

#include <unistd.h>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/io/output_path.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

constexpr int kFolderDepth = 2;  // 1_Pooling/config.json

/// `input`, and what the files of a folder are links to (downloaded checkpoints often are links to
/// files elsewhere).
std::vector<fs::path> places_of(const fs::path& input) {
  std::error_code ec;
  std::vector<fs::path> places = {fs::canonical(input, ec)};
  if (ec) return {};
  if (!fs::is_directory(places.front(), ec)) return places;
  const auto options = fs::directory_options::skip_permission_denied;
  for (auto it = fs::recursive_directory_iterator(places.front(), options, ec);
       it != fs::recursive_directory_iterator(); it.increment(ec)) {
    if (ec) break;
    if (it.depth() + 1 >= kFolderDepth) it.disable_recursion_pending();
    const fs::path file = fs::canonical(it->path(), ec);
    if (!ec) places.push_back(file);
  }
  return places;
}

}  // namespace

void check_input_file(const fs::path& file, const std::string& argument, FolderUse folder) {
  if (file == "-") return;  // the standard input, for commands that read texts

  std::error_code ec;
  const fs::file_status status = fs::status(file, ec);
  require(fs::exists(status), ErrorCode::kIo, file.string(), ": cannot open (", argument,
          "): ", ec ? ec.message() : std::string("No such file or directory"));
  require(folder == FolderUse::kAllowed || !fs::is_directory(status), ErrorCode::kIo, file.string(),
          ": is a folder (", argument, "); name a file");
}

void keep_inputs(const fs::path& output, const std::vector<fs::path>& inputs) {
  if (names_standard_output(output) || own_descriptor(output)) return;
  const fs::path target = resolve_output(output);
  std::error_code ec;
  if (!fs::exists(target, ec)) return;
  for (const fs::path& input : inputs)
    for (const fs::path& place : places_of(input))
      require(!is_within(place, target), ErrorCode::kUsage, output.string(),
              ": writing it would replace ", place.string(),
              ", which this run reads; choose another output");
}

void keep_input_folders(const fs::path& output, const std::vector<fs::path>& inputs) {
  keep_inputs(output, inputs);
  const fs::path target = resolve_output(output);
  for (const fs::path& input : inputs) {
    std::error_code ec;
    const fs::path folder = fs::canonical(input, ec);
    require(ec || !fs::is_directory(folder, ec) || !is_within(target, folder), ErrorCode::kUsage,
            output.string(), ": lies in the model directory ", folder.string(),
            ", which this run reads; choose an output outside of it");
  }
}

void keep_apart(const fs::path& file, const fs::path& output) {
  if (names_standard_output(file) || own_descriptor(file) || own_descriptor(output)) return;
  const fs::path target = resolve_output(file);
  for (const fs::path& taken : {resolve_output(output), journal_beside(output)})
    require(!is_within(target, taken), ErrorCode::kUsage, file.string(), ": lies where ",
            output.string(), " will be written; choose another file");
}

fs::path journal_beside(const fs::path& output) {
  return resolve_output(output).string() + ".journal";
}

bool names_standard_output(const fs::path& path) {
  return path == "-" || own_descriptor(path) == STDOUT_FILENO;
}

JsonFile::JsonFile(const std::string& path) : standard_output_(names_standard_output(path)) {
  if (!path.empty() && !standard_output_) file_ = std::make_unique<OutputFile>(path);
}

void JsonFile::write(const Json& json) {
  if (!file_) return;
  const std::string text = json.dump(2) + "\n";
  file_->write(text.data(), text.size());
  file_->commit();
  file_.reset();
}

}  // namespace quell
