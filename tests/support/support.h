// Where test data lies, and scratch directories.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "quell/compress/recipe.h"
#include "quell/engine/engines.h"
#include "quell/io/json.h"
#include "quell/job/calibration_samples.h"
#include "tests/support/scratch_dir.h"

namespace quell::testing {

/// `relative` under $QUELL_DATA (default ../shared beside the checkout), else, for "golden/...",
/// the selection in tests/golden. Empty when absent.
std::filesystem::path find_data(const std::string& relative);

/// Every folder in `relative`, in either place of find_data, by name: the cases of a golden test,
/// whatever they are called. Where there is none, one name that find_data does not find, so that
/// the test says so and skips.
std::vector<std::string> case_folders(const std::string& relative);
/// A folder's name as the name of a test: '-' becomes '_', anything else but letters and digits its
/// hexadecimal code.
std::string test_name(const std::string& folder);

/// The embedded example: model, calibration and evaluation data.
inline const std::filesystem::path kReviews =
    std::filesystem::path(QUELL_SOURCE_DIR) / "examples/reviews";

/// A built-in recipe, but with few rounds of AdaRound, of which the bytes of a result do not need
/// more.
Recipe quick_recipe(const std::string& name);
/// Samples of a model that reads text.
std::vector<TokenSequence> load_sequences(const CalibrationChoice& choice, const Model& model);

/// Of two f32 tensors.
bool same_bytes(const Tensor& a, const Tensor& b);

struct CommandResult {
  int exit_code;
  std::string out, err;
};
/// Expects that `command` ended with `code` and one line on stderr that holds `words`.
void expect_one_line_error(const CommandResult& result, int code, const std::string& words,
                           const std::string& command);
/// Runs the command `quell` with `arguments` (shell syntax), at most 10 minutes.
CommandResult run_quell(const std::string& arguments, const std::string& environment = "");

/// Runs `script` with the shell (bash), $QUELL being the command, $REVIEWS the embedded example,
/// and `dir` the working directory; at most 10 minutes.
CommandResult run_shell(const std::string& script, const std::filesystem::path& dir);

#define QUELL_NEED_DATA(variable, relative)                                     \
  const std::filesystem::path variable = ::quell::testing::find_data(relative); \
  if (variable.empty())                                                         \
  GTEST_SKIP() << relative << " is not there; set QUELL_DATA to the directory that holds it"

}  // namespace quell::testing
