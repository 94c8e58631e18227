// Documents that are generated say what the program says.
#include <gtest/gtest.h>

#include <sstream>

#include "quell/io/json.h"
#include "quell/io/mapped_file.h"
#include "quell/job/models_job.h"
#include "quell/model/family.h"
#include "quell/model/model.h"
#include "tests/support/support.h"

namespace quell {
namespace {

TEST(Docs, ModelsPageIsWhatTheRegistryHolds) {
  EXPECT_EQ(read_text_file(std::string(QUELL_SOURCE_DIR) + "/docs/models.md"), models_markdown())
      << "run: build/release/bin/quell models --markdown > docs/models.md";
}

/// A family that lists an architecture must read its config.
TEST(Docs, ListedArchitecturesAreRead) {
  for (const std::string& folder : quell::testing::case_folders("golden/models")) {
    const auto path = quell::testing::find_data("golden/models/" + folder);
    if (path.empty()) continue;
    Json config = read_json_file(path / "config.json");
    const Family& family = find_family(config["model_type"].get<std::string>());
    std::istringstream names{std::string(family.architectures)};
    for (std::string name; names >> name;) {
      config["architectures"] = {name};
      EXPECT_NO_THROW(build_architecture(Settings(config), family)) << name;
    }
  }
}

}  // namespace
}  // namespace quell
