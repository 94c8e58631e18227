#include <nlohmann/json.hpp>

#include "quell/base/error.h"
#include "quell/cli/command.h"
#include "quell/job/site_report.h"
#include "quell/job/training_page.h"

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

struct ReportOptions {
  SiteReportJob job;
  CompressionOptions compression;
  std::vector<std::filesystem::path> training;  ///< runs to draw; empty: a model is measured
};

/// What belongs to a model changes nothing in a picture of what has been.
void refuse_options_of_models(const CLI::App& report) {
  for (const CLI::Option* option : report.get_options()) {
    const std::string name = option->get_name();
    const bool goes_with_runs = name == "--training" || name == "--output" || name == "--help";
    require(option->count() == 0 || goes_with_runs, ErrorCode::kUsage, name,
            ": goes with a model, not with --training");
  }
}

int report_sites(const CLI::App& report_app, ReportOptions& options, const GlobalOptions& globals,
                 ExecContext& ctx) {
  SiteReportJob& job = options.job;
  job.recipe = options.compression.load_recipe(job.model_dir);
  job.calibration = options.compression.calibration_choice();
  job.eval = options.compression.task(job.eval_data);
  job.eval_labels = options.compression.eval_labels;
  job.quantize_command = quantize_command(report_app, job.model_dir.string());
  const std::string& recipe = options.compression.recipe;
  job.recipe_argument = shell_word(recipe.empty() ? job.recipe.name : recipe);

  Results results(globals);
  const SiteReport report = run_site_report_job(job, ctx);
  std::string text = report.verdict + "\n";
  for (const Advice& advice : report.advice) text += "- " + advice.text + "\n";
  if (!report.command.empty()) text += "\n  " + report.command + "\n\n";
  text += "wrote " + job.page.string() + "\n";
  results.print(report.to_json(), names_standard_output(job.page) ? std::string() : text);
  return 0;
}

int report_training(const CLI::App& report_app, const ReportOptions& options,
                    const GlobalOptions& globals) {
  refuse_options_of_models(report_app);
  const std::filesystem::path& page = options.job.page;

  Results results(globals);
  const TrainingReport report = run_training_report_job({.runs = options.training, .page = page});
  const std::string text = report.to_text() + "wrote " + page.string() + "\n";
  results.print(report.to_json(), names_standard_output(page) ? std::string() : text);
  return 0;
}

}  // namespace

Command add_report(CLI::App& app) {
  CLI::App* sub = app.add_subcommand(
      "report",
      "Quantize in memory and write a page on which layer hurts and what would help; or a page of "
      "curves of training");
  const auto o = std::make_shared<ReportOptions>();
  CLI::Option* model = model_option(*sub, "model", o->job.model_dir, "Float model directory");
  model->required();
  output_option(*sub, "output,--output", o->job.page, "HTML file to write")->required();
  add_compression_options(*sub, o->compression, "Advice in points of this task too");
  sub->add_option("--report-samples", o->job.num_samples,
                  "Samples to measure on, behind those of the calibration")
      ->transform(whole_number(1, kMostSamples))
      ->capture_default_str();

  CLI::Option* training = data_option(
      *sub, "--training", o->training,
      "Instead of a model: draw loss and metrics of these runs of training (OUT.training, a model "
      "with training/metrics.jsonl, or a metrics.jsonl); with --output");
  CLI::Option* calibration = sub->get_option("--calibration");
  training->each([model, calibration](const std::string&) {
    model->required(false);
    calibration->required(false);
  });
  return {sub, [sub, o](const GlobalOptions& globals, ExecContext& ctx) {
            if (!o->training.empty()) return report_training(*sub, *o, globals);
            return report_sites(*sub, *o, globals, ctx);
          }};
}

}  // namespace quell::cli
