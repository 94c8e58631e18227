#include <iostream>

#include "quell/cli/command.h"
#include "quell/job/generate_job.h"

namespace quell::cli {

Command add_generate(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("generate", "Continue prompts greedily (decoders), or answer them (encoder-decoder models)");
  const auto job = std::make_shared<GenerateJob>();
  sub->add_option("model", job->model_dir, "Model directory")->required();
  sub->add_option("--prompt", job->prompt, "Prompt; lines of standard input where left out");
  sub->add_option("--max-new-tokens", job->options.max_new_tokens, "Tokens at most")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--engine", job->engine,
                  "float, simulated, simulated-exact or integer; default integer where the model is quantized")
      ->check(CLI::IsMember({"float", "simulated", "simulated-exact", "integer"}));
  return {sub, [job](const GlobalOptions&, ExecContext& ctx) {
            run_generate_job(*job, std::cin, std::cout, ctx);
            return 0;
          }};
}

}  // namespace quell::cli
