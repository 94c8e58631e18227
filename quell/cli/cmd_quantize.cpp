#include "quell/base/error.h"
#include "quell/cli/command.h"
#include "quell/job/quantize_job.h"

namespace quell::cli {

Command add_quantize(CLI::App& app) {
  struct Options {
    QuantizeJob job;
    EvalOptions eval;
    std::string recipe = "os_plus", scheme, sampling = "random";
    std::vector<std::string> ignore;
  };
  CLI::App* sub = app.add_subcommand("quantize", "Quantize a model: calibrate, suppress outliers, write integers");
  const auto o = std::make_shared<Options>();
  sub->add_option("model", o->job.model_dir, "Model directory (Hugging Face layout)")->required();
  sub->add_option("output", o->job.output, "Directory to write")->required();
  sub->add_option("--recipe", o->recipe, "Built-in name (see quell recipes) or YAML file")->capture_default_str();
  sub->add_option("--scheme", o->scheme, "Bits of weights and activations, as W8A8; overrides the recipe");
  sub->add_option("--calibration", o->job.calibration.data.file,
                  "Calibration data (.txt, .jsonl, tab-separated, .u16, .safetensors)")
      ->required();
  sub->add_option("--num-samples", o->job.calibration.num_samples, "Samples at most")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  sub->add_option("--calibration-skip", o->job.calibration.skip, "Samples left out at the beginning")
      ->check(CLI::Range(0, 1 << 30));
  sub->add_option("--sampling", o->sampling, "random or first")->check(CLI::IsMember({"random", "first"}))->capture_default_str();
  sub->add_option("--seed", o->job.calibration.seed, "Of random sampling")->capture_default_str();
  sub->add_option("--max-seq-length", o->job.calibration.max_seq_length, "Tokens a sample at most")->check(CLI::PositiveNumber);
  sub->add_option("--ignore", o->ignore, "Linears left in float: name, glob or re:REGEX; may be repeated");
  sub->add_option("--format", o->job.format, "compressed-tensors, or float: the migrated model without quantization")
      ->check(CLI::IsMember({"compressed-tensors", "float"}))
      ->capture_default_str();
  sub->add_flag("--force", o->job.replace_output, "Replace an existing output directory");
  add_column_options(*sub, o->job.calibration.data.columns);
  sub->add_option("--eval-task", o->eval.task, "Measure float, simulated and integer model on this task")
      ->check(CLI::IsMember(task_names()));
  sub->add_option("--eval-data", o->job.eval_data.file, "Data of --eval-task");
  sub->add_option("--eval-text-column", o->job.eval_data.columns.text, "Text columns of --eval-data; default --text-column")
      ->delimiter(',')
      ->expected(1, 2);
  add_eval_options(*sub, o->eval);
  return {sub, [o](const GlobalOptions& globals, ExecContext& ctx) {
            QuantizeJob& job = o->job;
            job.recipe = load_recipe(o->recipe);
            if (!o->scheme.empty()) set_scheme(job.recipe, o->scheme);
            job.recipe.ignore.insert(job.recipe.ignore.end(), o->ignore.begin(), o->ignore.end());
            job.calibration.sampling = o->sampling == "first" ? Sampling::kFirst : Sampling::kRandom;
            require(o->eval.task.empty() == job.eval_data.file.empty(), ErrorCode::kUsage,
                    "--eval-task and --eval-data belong together");
            if (!o->eval.task.empty()) {
              o->eval.max_seq_length = job.calibration.max_seq_length;
              job.eval = o->eval;
              if (job.eval_data.columns.text.empty()) job.eval_data.columns.text = job.calibration.data.columns.text;
              job.eval_data.columns.label = job.calibration.data.columns.label;
            }
            const Report report = run_quantize_job(job, ctx);
            if (!write_json(globals, report.to_json()) && job.eval) print(report.to_table());
            return 0;
          }};
}

}  // namespace quell::cli
