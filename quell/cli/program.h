// A program of subcommands: arguments, messages, exit codes (0 success, 1 failure, 2 usage), and
// the one place where errors end.
#pragma once

#include <span>
#include <string>

#include "quell/cli/command.h"

namespace quell::cli {

using AddCommand = Command(CLI::App& app);

int run_program(const std::string& description, std::span<AddCommand* const> commands, int argc,
                char** argv);

/// Runs that keep what they have done tell so when a signal ends them.
void say_how_to_go_on_when_stopped();

}  // namespace quell::cli
