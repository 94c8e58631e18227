#include "quell/cli/command.h"
#include "quell/job/preflight.h"

namespace quell::cli {

Command add_quantize(CLI::App& app) {
  struct Options {
    QuantizeJob job;
    CompressionOptions compression;
    bool dry_run = false;
  };
  CLI::App* sub = app.add_subcommand("quantize", "Quantize a model: calibrate, suppress outliers, write integers");
  const auto o = std::make_shared<Options>();
  add_model_option(*sub, o->job.model_dir, "Model directory (Hugging Face layout)");
  sub->add_option("output", o->job.output, "Directory to write")->required();
  add_compression_options(*sub, o->compression, "Measure float, simulated and integer model on this task");
  sub->add_option("--format", o->job.format, "compressed-tensors, or float: the migrated model without quantization")
      ->check(CLI::IsMember({"compressed-tensors", "float"}))
      ->capture_default_str();
  sub->add_option("--max-memory", o->job.max_memory,
                  "Memory to stay below, as 8GiB: matrices lie on the disk where they need more than half of it (default: beyond 2 "
                  "GiB in f32, whatever there is)")
      ->transform(CLI::AsSizeValue(false))
      ->type_name("SIZE");
  sub->add_flag("--dry-run", o->dry_run, "Only say what it would take: time, memory and disk, and what would make it fail");
  sub->add_flag("--force", o->job.replace_output, "Replace an existing output directory");
  return {sub, [o](const GlobalOptions& globals, ExecContext& ctx) {
            QuantizeJob& job = o->job;
            job.recipe = o->compression.load_recipe();
            job.calibration = o->compression.calibration_choice();
            job.eval = o->compression.task(job.eval_data);
            if (o->dry_run) {
              const Preflight preflight = run_preflight(job, ctx);
              if (!write_json(globals, preflight.to_json())) print(preflight.to_text());
              return 0;
            }
            const Report report = run_quantize_job(job, ctx);
            if (!write_json(globals, report.to_json()) && job.eval) print(report.to_table());
            return 0;
          }};
}

}  // namespace quell::cli
