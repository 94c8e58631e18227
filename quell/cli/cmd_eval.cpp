#include "quell/base/error.h"
#include "quell/cli/command.h"
#include "quell/job/eval_job.h"

namespace quell::cli {

Command add_eval(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("eval", "Measure a model on a task");
  const auto job = std::make_shared<EvalJob>();
  const auto kl_base = std::make_shared<std::string>();
  add_model_option(*sub, job->model_dir);
  std::vector<std::string> tasks = task_names();
  tasks.emplace_back(kSummarization);
  sub->add_option("--task", job->options.task, "What to measure (docs/evaluation.md); perplexity where --kl-base is given")
      ->check(CLI::IsMember(tasks));
  sub->add_option("--data", job->data.file, "Data file (.txt, .jsonl, tab-separated, .u16, .safetensors)")->required();
  sub->add_option("--engine", job->engine,
                  "float, bf16, simulated, simulated-exact or integer; default integer where the model is quantized")
      ->check(CLI::IsMember({"float", "bf16", "simulated", "simulated-exact", "integer"}));
  sub->add_option("--reference", job->reference_dir, "Float model to compare with: cosine, KL divergence, top-1 agreement");
  sub->add_option("--kl-base", *kl_base,
                  "Float model: prints the statistics of llama.cpp's perplexity tool (PPL ratio, KL divergence, token "
                  "probabilities, each with its error)");
  sub->add_option("--max-new-tokens", job->max_new_tokens, "Summarization: tokens at most")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--max-seq-length", job->options.max_seq_length, "Tokens a row at most")->check(CLI::PositiveNumber);
  add_column_options(*sub, job->data.columns);
  add_eval_options(*sub, job->options);
  return {sub, [job, kl_base](const GlobalOptions& globals, ExecContext& ctx) {
            if (!kl_base->empty()) {
              if (job->options.task.empty()) job->options.task = "perplexity";
              require(is_perplexity(job->options.task), ErrorCode::kUsage, "--kl-base goes with --task perplexity");
              job->reference_dir = *kl_base;
            }
            require(!job->options.task.empty(), ErrorCode::kUsage, "--task is required");
            const Report report = run_eval_job(*job, ctx);
            if (!write_json(globals, report.to_json())) print(kl_base->empty() ? report.to_table() : report.tokens.to_text());
            return 0;
          }};
}

}  // namespace quell::cli
