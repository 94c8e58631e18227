// `quell train` and `quell distill` are run by a program of their own, which libtorch is linked to:
// quell-train. It takes the place of this one, with the same arguments.
#pragma once

#include "quell/cli/command.h"

namespace quell::cli {

/// Of main, which the other program is given as they are.
void remember_arguments(char** argv);

Command add_train(CLI::App& app);
Command add_distill(CLI::App& app);

}  // namespace quell::cli
