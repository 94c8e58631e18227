// The built-in recipes as a user asks for them.
#pragma once

#include <string>

#include "quell/text/data/recipe_library.h"

namespace quell {

/// The libraries, in the order in which they are listed.
inline std::vector<const RecipeLibrary*> recipe_libraries() {
  return {&quantization_recipes(), &training_recipes()};
}

/// YAML, of whichever library has it. Throws Error(kUsage).
std::string builtin_recipe_text(const std::string& name);

}  // namespace quell
