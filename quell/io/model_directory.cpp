#include "quell/io/model_directory.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "quell/base/error.h"
#include "quell/io/json.h"

namespace quell {
namespace fs = std::filesystem;

namespace {

/// The folder of the Transformer module, where modules.json gives it one; else `root`. What is
/// wrong with that file is said by whoever reads it for its modules.
fs::path model_folder(const fs::path& root) {
  std::error_code ec;
  if (!fs::exists(root / "modules.json", ec)) return root;

  try {
    for (const Json& module : read_json_file(root / "modules.json")) {
      if (!module.is_object() || !json_string(module, "type", "").ends_with(".Transformer"))
        continue;
      const fs::path folder = json_string(module, "path", "");
      const bool below =
          !folder.empty() && folder.is_relative() && *folder.lexically_normal().begin() != "..";
      if (below && fs::exists(root / folder / "config.json", ec)) return root / folder;
    }
  } catch (const Error&) {
    return root;
  }
  return root;
}

}  // namespace

struct ModelDirectory::State {
  fs::path root, path;
  AcceptedKeys accepted;
  std::vector<std::string> asked_for;  ///< those of `accepted` that the user named now
  bool knows_own_accepted = false;     ///< those of config.json are among `accepted`
  std::map<std::string, FileReport> reports;
  std::mutex mutex;
};

ModelDirectory::ModelDirectory(fs::path path, std::vector<std::string> accepted)
    : state_(std::make_shared<State>()) {
  state_->root = std::move(path);
  state_->path = model_folder(state_->root);
  state_->asked_for = accepted;
  state_->accepted = AcceptedKeys(std::move(accepted));
}

const fs::path& ModelDirectory::path() const { return state_->path; }
const fs::path& ModelDirectory::root() const { return state_->root; }

bool ModelDirectory::has(const std::string& file) const {
  std::error_code ec;
  return fs::exists(state_->path / file, ec);
}

bool ModelDirectory::has_modules() const {
  std::error_code ec;
  return fs::exists(state_->root / "modules.json", ec);
}

const AcceptedKeys& ModelDirectory::accepted() const {
  const std::lock_guard lock(state_->mutex);
  if (state_->knows_own_accepted) return state_->accepted;

  // What was accepted when the model was made was recorded then, and is not asked for again.
  state_->knows_own_accepted = true;
  if (!has("config.json")) return state_->accepted;

  const Json config = read_json_file(state_->path / "config.json");
  const Json recorded = config.is_object()
                            ? config.value("/quell/accepted"_json_pointer, Json::array())
                            : Json::array();
  for (const Json& key : recorded)
    if (key.is_string()) state_->accepted.add(key.get<std::string>());
  return state_->accepted;
}

void ModelDirectory::check_accepted() const {
  if (state_->asked_for.empty()) return;

  const std::vector<std::string> met = accepted().met();
  for (const std::string& key : state_->asked_for)
    require(std::find(met.begin(), met.end(), key) != met.end(), ErrorCode::kUsage, "--accept ",
            key, ": nothing in ", state_->path.string(), " asks for that");
}

Settings ModelDirectory::read(const std::string& file) const {
  const fs::path path = state_->path / file;
  return Settings(read_json_file(path), path.string(), accepted());
}

Settings ModelDirectory::read_if_there(const std::string& file) const {
  if (!has(file)) return Settings(Json::object(), (state_->path / file).string(), state_->accepted);
  return read(file);
}

Settings ModelDirectory::read_at_root(const std::string& file) const {
  const fs::path path = state_->root / file;
  return Settings(read_json_file(path), path.string(), accepted());
}

Settings ModelDirectory::read_list_at_root(const std::string& file, const std::string& name) const {
  const fs::path path = state_->root / file;
  Json list = read_json_file(path);
  require(list.is_array(), ErrorCode::kInvalidInput, path.string(), ": not a JSON array");
  return Settings(Json{{name, std::move(list)}}, path.string(), accepted());
}

void ModelDirectory::finish(const Settings& settings, std::span<const KeyRule> rules) const {
  FileReport report = judge_leftovers(settings, rules);
  const std::lock_guard lock(state_->mutex);
  state_->reports[report.file] = std::move(report);
}

void ModelDirectory::read_too(const Settings& settings) const {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->reports.find(settings.file());
  if (found == state_->reports.end()) return;

  FileReport& report = found->second;
  for (const std::string& key : settings.read_keys()) {
    std::erase_if(report.left, [&](const FileReport::Left& left) {
      return key == left.key || key.starts_with(left.key + ".");
    });
    const auto place = std::lower_bound(report.read.begin(), report.read.end(), key);
    if (place == report.read.end() || *place != key) report.read.insert(place, key);
  }
}

std::vector<FileReport> ModelDirectory::reports() const {
  const std::lock_guard lock(state_->mutex);
  std::vector<FileReport> all;
  for (const auto& [file, report] : state_->reports) all.push_back(report);
  return all;
}

}  // namespace quell
