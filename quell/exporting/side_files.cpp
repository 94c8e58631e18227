#include "quell/exporting/side_files.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <sstream>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

constexpr std::uintmax_t kMaxCopiedFile =
    512U << 20;                              ///< bytes of a file that is not a module's weights
constexpr std::size_t kMaxCode = 16U << 20;  ///< bytes of a file of Python
constexpr int kMaxDepth = 8;                 ///< of folders in a module's folder

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return text;
}

template <std::size_t n>
bool is_one_of(const std::string& text, const char* const (&choices)[n]) {
  return std::any_of(std::begin(choices), std::end(choices),
                     [&](const char* c) { return text == c; });
}

template <std::size_t n>
bool begins_with_one_of(const std::string& text, const char* const (&choices)[n]) {
  return std::any_of(std::begin(choices), std::end(choices),
                     [&](const char* c) { return text.starts_with(c); });
}

/// Weights of the old model in any framework's form, and what training left: replaced, or of no use
/// to a reader.
bool is_replaced(const std::string& name) {
  static constexpr const char* kWeights[] = {
      ".safetensors", ".bin",     ".pt",   ".pth",       ".ckpt",     ".h5",  ".msgpack",
      ".gguf",        ".ggml",    ".onnx", ".onnx_data", ".ot",       ".npz", ".index",
      ".tflite",      ".mlmodel", ".pkl",  ".pickle",    ".llamafile"};
  static constexpr const char* kTraining[] = {"trainer_state.json", "trainer_log.jsonl",
                                              "training_args.json", "config.v4.json"};
  const std::string extension = lower(fs::path(name).extension().string());
  const bool results = name.ends_with("_results.json");
  return is_one_of(extension, kWeights) || name.ends_with(".index.json") || results ||
         is_one_of(name, kTraining);
}

/// Settings and vocabularies by their extensions, old ones by their names, and what a model card
/// and its licence are called.
bool is_wanted(const std::string& name) {
  static constexpr const char* kExtensions[] = {".json", ".jinja", ".txt",   ".model", ".tiktoken",
                                                ".bpe",  ".spm",   ".vocab", ".codes"};
  static constexpr const char* kBeginnings[] = {
      "readme",      "license",    "licence",   "notice", "copying", "use_policy", "third_party",
      "third-party", "thirdparty", "tokenizer", "vocab",  "merges",  "bpe.codes"};
  const std::string small = lower(name), extension = fs::path(small).extension().string();
  if (extension == ".py" || extension == ".ipynb") return false;
  return is_one_of(extension, kExtensions) || begins_with_one_of(small, kBeginnings);
}

bool is_of_sentence_transformers(const std::string& name) {
  static constexpr const char* kNames[] = {"modules.json", "sentence_bert_config.json",
                                           "config_sentence_transformers.json"};
  return is_one_of(name, kNames);
}

/// Folders that are no part of a model: other forms of it, and what training left.
bool is_unrelated_folder(const std::string& name) {
  static constexpr const char* kNames[] = {"onnx",   "openvino", "runs",  "original", "logs",
                                           "coreml", "eval",     "wandb", "gguf",     "training"};
  return is_one_of(lower(name), kNames) || name.starts_with("checkpoint-") ||
         name.starts_with("global_step") || name == "__pycache__";
}

class SideFiles {
 public:
  SideFiles(fs::path from, fs::path to, SentenceModules modules)
      : from_(std::move(from)), to_(std::move(to)), modules_(modules) {
    std::error_code ec;
    root_ = fs::canonical(from_, ec);
    require(!ec, ErrorCode::kIo, from_.string(), ": cannot be read: ", ec.message());
  }

  std::vector<std::string> copy() {
    const bool stay = modules_ == SentenceModules::kStay;
    const std::set<std::string> modules = module_folders();
    const std::set<fs::path> code = code_files();
    for (const fs::directory_entry& entry : entries(from_)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with(".") || name == "config.json") continue;
      if (is_directory(entry)) {
        if (name == "additional_chat_templates")
          copy_folder(name, [](const std::string& file) { return file.ends_with(".jinja"); });
        else if (!belongs_to(name, modules) && !is_unrelated_folder(name))
          leave(name + "/", "no module that modules.json names");
      } else if (stay && is_of_sentence_transformers(name)) {
        leave(name, "the model that is written makes no sentence embeddings");
      } else if (name == "adapter_config.json") {
        leave(name, "an adapter is not merged into the weights");
      } else if (code.contains(name) || (is_wanted(name) && !is_replaced(name))) {
        copy_file(name);
      } else if (!is_replaced(name)) {
        leave(name, fs::path(name).extension() == ".py" ? "code that no auto_map names"
                                                        : "of no known use");
      }
    }
    for (const fs::path& file : code)
      if (file.has_parent_path()) copy_file(file);
    for (const std::string& folder : modules)
      if (!stay) copy_module(folder);
    std::sort(left_.begin(), left_.end());
    return std::move(left_);
  }

 private:
  static std::vector<fs::directory_entry> entries(const fs::path& dir) {
    std::error_code ec;
    std::vector<fs::directory_entry> out;
    for (const auto& entry : fs::directory_iterator(dir, ec)) out.push_back(entry);
    require(!ec, ErrorCode::kIo, dir.string(), ": cannot be read: ", ec.message());
    return out;
  }

  static bool is_directory(const fs::directory_entry& entry) {
    std::error_code ec;
    return entry.is_directory(ec);
  }

  static bool belongs_to(const std::string& folder, const std::set<std::string>& modules) {
    return std::any_of(modules.begin(), modules.end(), [&](const std::string& m) {
      return m == folder || m.starts_with(folder + "/");
    });
  }

  /// A link that leads out of the directory would bring along what nobody put there.
  bool stays_inside(const fs::path& path) const {
    std::error_code ec;
    const fs::path real = fs::canonical(path, ec);
    return !ec &&
           std::mismatch(root_.begin(), root_.end(), real.begin(), real.end()).first == root_.end();
  }

  void leave(const std::string& name, const std::string& why) {
    left_.push_back(name + " (" + why + ")");
  }

  void copy_file(const fs::path& name, std::uintmax_t limit = kMaxCopiedFile) {
    std::error_code ec;
    const fs::path source = from_ / name;
    if (!fs::is_regular_file(source, ec)) return leave(name.string(), "no regular file");
    if (fs::file_size(source, ec) > limit) return leave(name.string(), "too large");
    fs::create_directories((to_ / name).parent_path(), ec);
    fs::copy_file(source, to_ / name, ec);
    require(!ec, ErrorCode::kIo, source.string(), ": cannot copy to ", to_.string(), ": ",
            ec.message());
  }

  /// Everything below `folder` whose file name `wanted` accepts.
  template <typename Wanted>
  void copy_folder(const fs::path& folder, const Wanted& wanted, int depth = 0) {
    if (!stays_inside(from_ / folder))
      return leave(folder.string() + "/", "a link out of the directory");
    if (depth > kMaxDepth) return leave(folder.string() + "/", "nested too deep");
    for (const fs::directory_entry& entry : entries(from_ / folder)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with(".")) continue;
      if (is_directory(entry))
        copy_folder(folder / name, wanted, depth + 1);
      else if (wanted(name))
        copy_file(folder / name, UINTMAX_MAX);
    }
  }

  void copy_module(const std::string& folder) {
    std::error_code ec;
    if (!fs::is_directory(from_ / folder, ec)) return;
    const bool has_weights = fs::exists(from_ / folder / "model.safetensors", ec);
    copy_folder(folder, [&](const std::string& name) {
      static constexpr const char* kPickles[] = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"};
      const bool pickle = is_one_of(lower(fs::path(name).extension().string()), kPickles);
      if (pickle && !has_weights)
        leave(folder + "/" + name,
              "a pickle can run code when it is read: save the module as model.safetensors");
      return !pickle;
    });
  }

  Json read(const std::string& name) const {
    std::error_code ec;
    return fs::is_regular_file(from_ / name, ec) ? read_json_file(from_ / name) : Json();
  }

  /// Paths of the entries of modules.json, but for the model itself. They come from a file that
  /// anybody may have written.
  std::set<std::string> module_folders() {
    std::set<std::string> out;
    const Json modules = read("modules.json");
    if (modules.is_null() && !read("1_Pooling/config.json").is_null())
      out.insert("1_Pooling");  // read alone, as a mean
    if (!modules.is_array()) return out;
    for (const Json& module : modules) {
      if (!module.is_object()) continue;
      const fs::path path = fs::path(json_string(module, "path", "")).lexically_normal();
      std::string name = path.generic_string();
      while (name.ends_with("/")) name.pop_back();
      if (name.empty() || name == ".") continue;
      if (path.is_absolute() || *path.begin() == "..")
        leave(name + "/", "lies outside the directory");
      else
        out.insert(name);
    }
    return out;
  }

  /// Files of Python that a loader imports: named by an auto_map or as a module's type, and what
  /// those import from beside them.
  std::set<fs::path> code_files() const {
    std::set<fs::path> out;
    for (const char* file : {"config.json", "tokenizer_config.json", "processor_config.json",
                             "preprocessor_config.json"}) {
      const Json json = read(file);
      const Json& map =
          json.is_object() && json.contains("auto_map") ? json["auto_map"] : Json::object();
      for (const Json& entry : map)
        for (const Json& name : entry.is_array() ? entry : Json::array({entry}))
          if (name.is_string()) add_code(name.get<std::string>(), out);
    }
    const Json modules = read("modules.json");
    if (modules.is_array())
      for (const Json& module : modules)
        if (module.is_object()) add_code(json_string(module, "type", ""), out);
    return out;
  }

  /// `name`: "file.Class" or "folder.file.Class"; "owner/repository--file.Class" lies elsewhere.
  void add_code(const std::string& name, std::set<fs::path>& out) const {
    const std::size_t dot = name.rfind('.');
    if (dot == std::string::npos || name.find("--") != std::string::npos ||
        name.find('/') != std::string::npos)
      return;
    std::string path = name.substr(0, dot);
    std::replace(path.begin(), path.end(), '.', '/');
    add_code_file(path + ".py", out);
  }

  void add_code_file(const fs::path& file, std::set<fs::path>& out) const {
    std::error_code ec;
    if (file.is_absolute() || !fs::is_regular_file(from_ / file, ec) || !out.insert(file).second)
      return;
    std::istringstream lines(read_text_file(from_ / file, kMaxCode));
    for (std::string line; std::getline(lines, line);) {
      std::replace_if(
          line.begin(), line.end(), [](char c) { return c == ',' || c == '(' || c == ')'; }, ' ');
      std::istringstream words(line);
      std::string from, module, import;
      if (!(words >> from >> module >> import) || from != "from" || !module.starts_with(".") ||
          import != "import")
        continue;
      module.erase(0, 1);
      std::replace(module.begin(), module.end(), '.', '/');
      if (!module.empty()) add_code_file(file.parent_path() / (module + ".py"), out);
      for (std::string name; module.empty() && words >> name;)  // from . import a, b
        add_code_file(file.parent_path() / (name + ".py"), out);
    }
  }

  fs::path from_, to_, root_;
  SentenceModules modules_;
  std::vector<std::string> left_;
};

}  // namespace

SentenceModules sentence_modules_of(const Model& model) {
  const bool is_sentence_model = model.sentence.defined() || model.max_seq_length > 0;
  return is_sentence_model ? SentenceModules::kTravel : SentenceModules::kStay;
}

std::vector<std::string> copy_side_files(const fs::path& from, const fs::path& to,
                                         SentenceModules modules) {
  std::error_code ec;
  if (!fs::exists(from, ec)) return {};  // a model that was made in memory

  return SideFiles(from, to, modules).copy();
}

}  // namespace quell
