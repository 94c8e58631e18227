#include <nlohmann/json.hpp>

#include "quell/cli/command.h"
#include "quell/job/models_job.h"

namespace quell::cli {

Command add_models(CLI::App& app) {
  CLI::App* sub =
      app.add_subcommand("models", "List the model families, tokenizer components and tasks");
  const auto markdown = std::make_shared<bool>(false);
  sub->add_flag("--markdown", *markdown, "As docs/models.md");
  return {sub, [markdown](const GlobalOptions& globals, ExecContext&) {
            Results results(globals);
            const Json all = list_models();
            std::string text;
            for (const Json& f : all["families"])
              text += f["model_type"].get<std::string>() + "\t" +
                      f["description"].get<std::string>() + "\n";
            results.print(all, *markdown ? models_markdown() : text);
            return 0;
          }};
}

}  // namespace quell::cli
