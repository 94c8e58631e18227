#include <nlohmann/json.hpp>

#include "quell/cli/command.h"
#include "quell/job/quantize_job.h"

namespace quell::cli {

Command add_recipes(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("recipes", "List the built-in recipes, or print one");
  const auto name = std::make_shared<std::string>();
  sub->add_option("name", *name, "Recipe to print");
  return {sub, [name](const GlobalOptions& globals, ExecContext&) {
            Results results(globals);
            if (!name->empty()) {
              const std::string recipe = builtin_recipe_text(*name);
              results.print({{"name", *name}, {"recipe", recipe}}, recipe);
              return 0;
            }
            std::string text;
            for (const std::string& recipe : builtin_recipe_names()) text += recipe + "\n";
            results.print(Json(builtin_recipe_names()), text);
            return 0;
          }};
}

}  // namespace quell::cli
