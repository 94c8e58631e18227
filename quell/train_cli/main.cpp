// The command `quell-train`, which `quell train` and `quell distill` become.
#include <malloc.h>
#include <unistd.h>

#include <cstdlib>

#include "quell/cli/program.h"
#include "quell/train_cli/commands.h"

namespace {

/// Threads of OpenMP that wait turn in a loop by default, so that beside a busy process two of them
/// take many times as long as one. OpenMP reads how they are to wait when it is loaded, before
/// main: the program is started once more with that in its environment.
void let_waiting_threads_sleep(char** argv) {
  const bool is_said = std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT");
  if (is_said) return;
  ::setenv("OMP_WAIT_POLICY", "PASSIVE", 1);
  ::execv("/proc/self/exe", argv);  // where that fails, training is slower and no more
}

/// Each step makes and frees the same tensors. Given back to the system in between, a tenth of a
/// step goes into clearing their pages again.
void keep_freed_memory() {
  ::mallopt(M_MMAP_MAX, 0);
  ::mallopt(M_TRIM_THRESHOLD, -1);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace quell::cli;
  let_waiting_threads_sleep(argv);
  keep_freed_memory();
  static constexpr AddCommand* kCommands[] = {add_train, add_distill};
  return run_program("Quell's training: fine-tuning, distillation, low-bit models", kCommands, argc,
                     argv);
}
