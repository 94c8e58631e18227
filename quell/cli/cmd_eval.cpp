#include "quell/cli/command.h"
#include "quell/job/eval_job.h"

namespace quell::cli {

Command add_eval(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("eval", "Measure a model on a task");
  const auto job = std::make_shared<EvalJob>();
  sub->add_option("model", job->model_dir, "Model directory")->required();
  sub->add_option("--task", job->options.task, "sts, classification, masked-lm or perplexity")
      ->required()
      ->check(CLI::IsMember({"sts", "classification", "masked-lm", "perplexity"}));
  sub->add_option("--data", job->data.file, "Data file (.txt, .jsonl, tab-separated, .u16, .safetensors)")->required();
  sub->add_option("--engine", job->engine,
                  "float, simulated, simulated-exact or integer; default integer where the model is quantized")
      ->check(CLI::IsMember({"float", "simulated", "simulated-exact", "integer"}));
  sub->add_option("--reference", job->reference_dir, "Float model to compare with: cosine, KL divergence, top-1 agreement");
  sub->add_option("--max-seq-length", job->options.max_seq_length, "Tokens a row at most")->check(CLI::PositiveNumber);
  add_column_options(*sub, job->data.columns);
  add_eval_options(*sub, job->options);
  return {sub, [job](const GlobalOptions& globals, ExecContext& ctx) {
            const Report report = run_eval_job(*job, ctx);
            if (!write_json(globals, report.to_json())) print(report.to_table());
            return 0;
          }};
}

}  // namespace quell::cli
