#include <fstream>
#include <iostream>

#include "quell/base/error.h"
#include "quell/cli/command.h"
#include "quell/job/tokenize_job.h"

namespace quell::cli {

Command add_tokenize(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("tokenize", "Print the token ids of each line as a JSON array");
  const auto files = std::make_shared<std::pair<std::string, std::string>>();
  sub->add_option("model", files->first, "Model directory")->required();
  sub->add_option("file", files->second, "Text file; standard input where left out");
  return {sub, [files](const GlobalOptions&, ExecContext&) {
            if (files->second.empty()) {
              run_tokenize_job(files->first, std::cin, std::cout);
            } else {
              std::ifstream in(files->second);
              require(in.good(), ErrorCode::kIo, files->second, ": cannot open");
              run_tokenize_job(files->first, in, std::cout);
            }
            std::cout.flush();
            require(std::cout.good(), ErrorCode::kIo, "cannot write to standard output");
            return 0;
          }};
}

}  // namespace quell::cli
