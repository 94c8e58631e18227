#include <nlohmann/json.hpp>

#include "quell/cli/command.h"
#include "quell/job/verify_job.h"

namespace quell::cli {

Command add_verify(CLI::App& app) {
  CLI::App* sub = app.add_subcommand(
      "verify", "Compare a model with recorded outputs of a reference implementation");
  const auto job = std::make_shared<VerifyJob>();
  model_option(*sub, "model", job->model_dir, "Model directory")->required();
  file_option(*sub, "reference", job->reference,
              "File with recorded inputs and outputs (.safetensors)")
      ->required();
  sub->add_option("--engine", job->engine, "float, bf16, simulated, simulated-exact or integer")
      ->capture_default_str();
  sub->add_option("--tolerance", job->tolerance, "Absolute and relative")
      ->transform(real_number(1e-12, 1e6))
      ->capture_default_str();
  return {sub, [job](const GlobalOptions& globals, ExecContext& ctx) {
            Results results(globals);
            const VerifyResult result = run_verify_job(*job, ctx);
            Json rows = Json::array();
            std::string table;
            for (const VerifyRow& row : result.rows) {
              rows.push_back({{"tensor", row.tensor},
                              {"max_difference", row.max_difference},
                              {"compared", row.compared},
                              {"passed", row.passed()}});
              table += format_text("%-32s max difference %.3e of %lld elements  %s\n",
                                   row.tensor.c_str(), row.max_difference,
                                   static_cast<long long>(row.compared),
                                   row.passed() ? "ok" : "BEYOND THE TOLERANCE");
            }
            results.print({{"passed", result.passed}, {"tensors", rows}}, table);
            return result.passed ? 0 : 1;
          }};
}

}  // namespace quell::cli
