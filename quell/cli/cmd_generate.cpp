#include <iostream>

#include "quell/base/error.h"
#include "quell/cli/command.h"
#include "quell/job/generate_job.h"

namespace quell::cli {

Command add_generate(CLI::App& app) {
  CLI::App* sub = app.add_subcommand(
      "generate", "Continue prompts (decoders), or answer them (encoder-decoder models)");
  const auto job = std::make_shared<GenerateJob>();
  model_option(*sub, "model", job->model_dir, "Model directory")->required();
  sub->add_option("--prompt", job->prompt,
                  "Prompt, empty for none; lines of standard input where left out");
  sub->add_flag("--escape", job->escape,
                "Write line breaks inside a text as \\n and backslashes as \\\\");
  const CLI::Option* length =
      sub->add_option("--max-new-tokens", job->options.max_new_tokens,
                      "Tokens at most; default: what the model's settings say, else 64")
          ->transform(whole_number(1, kMostSamples));
  sub->add_option("--temperature", job->options.sampling.temperature,
                  "0: the most likely token (greedy)")
      ->transform(real_number(0, 100))
      ->capture_default_str();
  std::vector<const CLI::Option*> draws;
  draws.push_back(sub->add_option("--top-k", job->options.sampling.top_k,
                                  "Draw from the k most likely tokens; 0: all")
                      ->transform(whole_number(0, kMostRows))
                      ->capture_default_str());
  draws.push_back(sub->add_option("--top-p", job->options.sampling.top_p,
                                  "Draw from the most likely tokens that together reach p")
                      ->transform(real_number(0, 1))
                      ->capture_default_str());
  draws.push_back(
      sub->add_option("--seed", job->options.sampling.seed, "Of the draws: same seed, same text")
          ->transform(seed())
          ->capture_default_str());
  sub->add_flag_callback(
      "--kv-int8", [job] { job->options.kv_format = KvFormat::kInt8; },
      "Keep keys and values as 8-bit codes: a quarter of the memory");
  sub->add_option("--engine", job->engine,
                  "float, bf16, simulated, simulated-exact or integer; default integer where the "
                  "model is quantized")
      ->check(CLI::IsMember({"float", "bf16", "simulated", "simulated-exact", "integer"}));
  return {
      sub,
      [job, length, draws](const GlobalOptions&, ExecContext& ctx) {
        for (const CLI::Option* option : draws)
          require(
              option->count() == 0 || job->options.sampling.temperature > 0, ErrorCode::kUsage,
              option->get_name(),
              ": goes with a --temperature above 0; without one the most likely token is taken");
        job->length_by_model = length->count() == 0;
        run_generate_job(*job, std::cin, std::cout, ctx);
        return 0;
      },
      false};
}

}  // namespace quell::cli
