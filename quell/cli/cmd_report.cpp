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
  model_option(*sub, "model", o->job.model_dir, "Float model directory")->required();
  output_option(*sub, "output", o->job.page, "HTML file to write")->required();
  add_compression_options(*sub, o->compression, "Advice in points of this task too");
  sub->add_option("--report-samples", o->job.num_samples, "Samples to measure on, behind those of the calibration")
      ->transform(whole_number(1, kMostSamples))
      ->capture_default_str();
  return {sub, [sub, o](const GlobalOptions& globals, ExecContext& ctx) {
            SiteReportJob& job = o->job;
            job.recipe = o->compression.load_recipe();
            job.calibration = o->compression.calibration_choice();
            job.eval = o->compression.task(job.eval_data);
            Results results(*sub, globals, {job.page});
            const SiteReport report = run_site_report_job(job, ctx);
            std::string text;
            for (const std::string& line : report.advice) text += line + "\n";
            text += "wrote " + job.page.string() + "\n";
            results.print(report.to_json(), names_standard_output(job.page) ? std::string() : text);
            return 0;
          }};
}

}  // namespace quell::cli
