#include "quell/exporting/sentence_modules.h"

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/io/mapped_file.h"

namespace quell {
namespace fs = std::filesystem;
namespace {

/// modules.json with the encoder in no folder of its own.
void write_modules(const fs::path& from, const fs::path& to) {
  Json modules = read_json_file(from);
  for (Json& module : modules)
    if (json_string(module, "type", "").ends_with(".Transformer")) module["path"] = "";
  write_text_file(to, modules.dump(2) + "\n");
}

}  // namespace

void copy_sentence_modules(const Model& model, const fs::path& to) {
  const fs::path& from = model.dir.root();
  for (const std::string& file : model.sentence.files) {
    if (file == "modules.json") {
      write_modules(from / file, to / file);
      continue;
    }
    std::error_code ec;
    fs::create_directories((to / file).parent_path(), ec);
    fs::copy_file(from / file, to / file, fs::copy_options::overwrite_existing, ec);
    require(!ec, ErrorCode::kIo, (from / file).string(), ": cannot copy to ", to.string(), ": ",
            ec.message());
  }
}

}  // namespace quell
