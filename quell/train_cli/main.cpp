// The command `quell-train`, which `quell train` and `quell distill` become.
#include "quell/cli/program.h"
#include "quell/train_cli/commands.h"

int main(int argc, char** argv) {
  using namespace quell::cli;
  static constexpr AddCommand* kCommands[] = {add_train, add_distill};
  return run_program("Quell's training: fine-tuning, distillation, low-bit models", kCommands, argc,
                     argv);
}
