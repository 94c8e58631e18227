#include <nlohmann/json.hpp>

#include "quell/base/error.h"
#include "quell/cli/command.h"
#include "quell/job/inspect_job.h"

namespace quell::cli {

Command add_inspect(CLI::App& app) {
  CLI::App* sub = app.add_subcommand(
      "inspect", "Show architecture, kernels and, with calibration data, activation ranges");
  const auto job = std::make_shared<InspectJob>();
  const auto calibration = std::make_shared<CalibrationChoice>();
  model_option(*sub, "model", job->model_dir, "Model directory")->required();
  sub->add_flag("--kernels", job->kernels,
                "Also list norms and attention that read or write codes; of networks of "
                "convolutions the memory traffic of every operator");
  sub->add_option("--scheme", job->scheme,
                  "Also show what the model takes by such a scheme, counted as in the papers: "
                  "W2A8, W1.58A8, \"W2A8 E8\" (bits of embeddings); config.json alone is enough")
      ->check(not_empty());
  CLI::Option* data = data_option(*sub, "--calibration", calibration->data.file,
                                  "Data to measure activation ranges on");
  sub->add_option("--num-samples", calibration->num_samples, "Samples at most")
      ->needs(data)
      ->transform(whole_number(1, kMostSamples))
      ->capture_default_str();
  sub->add_option("--max-seq-length", calibration->max_seq_length, "Tokens a sample at most")
      ->needs(data)
      ->transform(whole_number(1, kMostTokens));
  add_column_options(*sub, calibration->data.columns);
  return {sub, [job, calibration](const GlobalOptions& globals, ExecContext& ctx) {
            const ColumnChoice& columns = calibration->data.columns;
            if (!calibration->data.file.empty()) job->calibration = *calibration;
            require(job->calibration || (columns.text.empty() && columns.label.empty()),
                    ErrorCode::kUsage, "--text-column, --label-column: go with --calibration");
            job->threads_asked = globals.threads > 0;
            Results results(globals);
            const Json report = run_inspect_job(*job, ctx);
            results.print(report, inspect_text(report));
            return 0;
          }};
}

}  // namespace quell::cli
