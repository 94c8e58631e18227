#include "quell/cli/command.h"
#include "quell/cli/program.h"
#include "quell/job/preflight.h"

namespace quell::cli {

Command add_quantize(CLI::App& app) {
  struct Options {
    QuantizeJob job;
    CompressionOptions compression;
    bool dry_run = false;
  };
  CLI::App* sub = app.add_subcommand(
      "quantize", "Quantize a model: calibrate, suppress outliers, write integers");
  const auto o = std::make_shared<Options>();
  model_option(*sub, "model", o->job.model_dir, "Model directory (Hugging Face layout)")
      ->required();
  output_option(*sub, "output", o->job.output, "Directory to write")->required();
  add_compression_options(*sub, o->compression,
                          "Measure float, simulated and integer model on this task");
  sub->add_option("--format", o->job.format,
                  "compressed-tensors, or float: the migrated model without quantization")
      ->check(CLI::IsMember({"compressed-tensors", "float"}))
      ->capture_default_str();
  sub->add_option("--max-memory", o->job.max_memory,
                  "Memory to stay below, as 8GiB: matrices lie on the disk where they need more "
                  "than half of it (default: beyond 2 "
                  "GiB in f32, whatever there is)")
      ->transform(byte_size())
      ->type_name("SIZE");
  sub->add_flag("--dry-run", o->dry_run,
                "Only say what it would take: time, memory and disk, and what would make it fail");
  sub->add_flag("--force", o->job.replace_output, "Replace an existing output directory");
  return {sub, [o](const GlobalOptions& globals, ExecContext& ctx) {
            QuantizeJob& job = o->job;
            job.recipe = o->compression.load_recipe(job.model_dir);
            job.calibration = o->compression.calibration_choice();
            job.eval = o->compression.task(job.eval_data);
            job.eval_labels = o->compression.eval_labels;
            Results results(globals);
            if (o->dry_run) {
              const Preflight preflight = run_preflight(job, ctx);
              results.print(preflight.to_json(), preflight.to_text());
              return 0;
            }
            say_how_to_go_on_when_stopped();
            const Report report = run_quantize_job(job, ctx);
            results.print(report.to_json(), job.eval ? report.to_table() : std::string());
            return 0;
          }};
}

}  // namespace quell::cli
