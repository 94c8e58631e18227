#include <nlohmann/json.hpp>

#include "quell/cli/command.h"
#include "quell/job/recipes.h"

namespace quell::cli {
namespace {

void list_recipes(Results& results) {
  Json names;
  std::string text;
  for (const RecipeLibrary* library : recipe_libraries()) {
    names[library->commands()] = library->names();
    text += "for " + library->commands() + ":\n";
    for (const std::string& recipe : library->names()) text += "  " + recipe + "\n";
  }
  results.print(names, text);
}

}  // namespace

Command add_recipes(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("recipes", "List the built-in recipes, or print one");
  const auto name = std::make_shared<std::string>();
  sub->add_option("name", *name, "Recipe to print");
  return {sub, [name](const GlobalOptions& globals, ExecContext&) {
            Results results(globals);
            if (name->empty()) {
              list_recipes(results);
            } else {
              const std::string recipe = builtin_recipe_text(*name);
              results.print({{"name", *name}, {"recipe", recipe}}, recipe);
            }
            return 0;
          }};
}

}  // namespace quell::cli
