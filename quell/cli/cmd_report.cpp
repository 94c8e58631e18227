#include "quell/cli/command.h"
#include "quell/job/site_report.h"

namespace quell::cli {
namespace {

/// `word` as a shell reads it back.
std::string shell_word(const std::string& word) {
  const bool plain =
      !word.empty() &&
      word.find_first_not_of(
          "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./,:+=@%") ==
          std::string::npos;
  if (plain) return word;

  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

/// `quell quantize` with the options that were given to `report`, but for the recipe.
std::string quantize_command(const CLI::App& report, const std::string& model) {
  std::string command = "quell quantize " + shell_word(model) + " OUT";
  for (const CLI::Option* option : report.get_options()) {
    const bool shared = option->count() > 0 && !option->get_positional() &&
                        option->get_name() != "--report-samples";
    if (!shared || option->get_name() == "--help" || option->get_name() == "--recipe") continue;

    std::string values;
    for (const std::string& value : option->results())
      values += (values.empty() ? "" : ",") + value;
    if (option->get_name() == "--ignore" || option->get_name() == "--accept") {
      for (const std::string& value : option->results())
        command += " " + option->get_name() + " " + shell_word(value);
      continue;
    }
    command += " " + option->get_name() + " " + shell_word(values);
  }
  return command;
}

}  // namespace

Command add_report(CLI::App& app) {
  struct Options {
    SiteReportJob job;
    CompressionOptions compression;
  };
  CLI::App* sub = app.add_subcommand(
      "report", "Quantize in memory and write a page on which layer hurts and what would help");
  const auto o = std::make_shared<Options>();
  model_option(*sub, "model", o->job.model_dir, "Float model directory")->required();
  output_option(*sub, "output", o->job.page, "HTML file to write")->required();
  add_compression_options(*sub, o->compression, "Advice in points of this task too");
  sub->add_option("--report-samples", o->job.num_samples,
                  "Samples to measure on, behind those of the calibration")
      ->transform(whole_number(1, kMostSamples))
      ->capture_default_str();
  return {sub, [sub, o](const GlobalOptions& globals, ExecContext& ctx) {
            SiteReportJob& job = o->job;
            job.recipe = o->compression.load_recipe(job.model_dir);
            job.calibration = o->compression.calibration_choice();
            job.eval = o->compression.task(job.eval_data);
            job.eval_labels = o->compression.eval_labels;
            job.quantize_command = quantize_command(*sub, job.model_dir.string());
            const std::string& recipe = o->compression.recipe;
            job.recipe_argument = shell_word(recipe.empty() ? job.recipe.name : recipe);
            Results results(globals);
            const SiteReport report = run_site_report_job(job, ctx);
            std::string text = report.verdict + "\n";
            for (const Advice& advice : report.advice) text += "- " + advice.text + "\n";
            if (!report.command.empty()) text += "\n  " + report.command + "\n\n";
            text += "wrote " + job.page.string() + "\n";
            results.print(report.to_json(), names_standard_output(job.page) ? std::string() : text);
            return 0;
          }};
}

}  // namespace quell::cli
