#include "quell/cli/command.h"
#include "quell/job/site_report.h"

namespace quell::cli {

Command add_report(CLI::App& app) {
  struct Options {
    SiteReportJob job;
    CompressionOptions compression;
  };
  CLI::App* sub = app.add_subcommand("report", "Quantize in memory and write a page on which layer hurts and what would help");
  const auto o = std::make_shared<Options>();
  add_model_option(*sub, o->job.model_dir, "Float model directory");
  sub->add_option("output", o->job.page, "HTML file to write")->required();
  add_compression_options(*sub, o->compression, "Advice in points of this task too");
  sub->add_option("--report-samples", o->job.num_samples, "Samples to measure on, behind those of the calibration")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  return {sub, [o](const GlobalOptions& globals, ExecContext& ctx) {
            SiteReportJob& job = o->job;
            job.recipe = o->compression.load_recipe();
            job.calibration = o->compression.calibration_choice();
            job.eval = o->compression.task(job.eval_data);
            const SiteReport report = run_site_report_job(job, ctx);
            std::string text;
            for (const std::string& line : report.advice) text += line + "\n";
            if (!write_json(globals, report.to_json())) print(text + "wrote " + job.page.string() + "\n");
            return 0;
          }};
}

}  // namespace quell::cli
