#include "quell/job/recipes.h"

#include "quell/base/error.h"

namespace quell {

std::string builtin_recipe_text(const std::string& name) {
  for (const RecipeLibrary* library : recipe_libraries())
    if (const char* text = library->find(name)) return text;
  throw Error(ErrorCode::kUsage,
              "recipe \"" + name + "\" is unknown; quell recipes lists those that are built in");
}

}  // namespace quell
