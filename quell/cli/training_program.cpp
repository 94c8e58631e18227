#include "quell/cli/training_program.h"

#include <unistd.h>

#include <filesystem>

#include "quell/base/error.h"

namespace quell::cli {
namespace {
namespace fs = std::filesystem;

constexpr const char* kProgram = "quell-train";

char** given_arguments = nullptr;

/// Beside this program, or on PATH.
[[noreturn]] void become_training_program() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const fs::path beside = self.parent_path() / kProgram;
  if (!error && fs::exists(beside, error)) ::execv(beside.c_str(), given_arguments);
  ::execvp(kProgram, given_arguments);
  throw Error(ErrorCode::kUsage,
              "train and distill are run by quell-train, which is not installed beside quell; it "
              "needs libtorch: tools/install_packages.sh train, then build with "
              "-DQUELL_BUILD_TRAIN=ON");
}

/// Every option is the other program's.
Command add_forwarded(CLI::App& app, const char* name, const char* description) {
  CLI::App* sub = app.add_subcommand(name, description);
  sub->set_help_flag();
  sub->fallthrough(false);
  sub->prefix_command();
  return {sub, [](const GlobalOptions&, ExecContext&) -> int { become_training_program(); }};
}

}  // namespace

void remember_arguments(char** argv) { given_arguments = argv; }

Command add_train(CLI::App& app) {
  return add_forwarded(app, "train", "Fine-tune a model on labels (started as quell-train)");
}

Command add_distill(CLI::App& app) {
  return add_forwarded(
      app, "distill", "Train a quantized or shallower student of a model (started as quell-train)");
}

}  // namespace quell::cli
