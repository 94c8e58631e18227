// The subcommands of quell-train.
#pragma once

#include "quell/cli/command.h"

namespace quell::cli {

Command add_train(CLI::App& app);
Command add_distill(CLI::App& app);

}  // namespace quell::cli
