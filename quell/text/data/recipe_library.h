// The recipes that are compiled in, of both kinds.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

namespace quell {

class RecipeLibrary {
 public:
  struct Entry {
    const char* name;
    const char* text;  ///< YAML
  };
  /// `commands`: which take these recipes, as messages name them.
  RecipeLibrary(std::string commands, std::span<const Entry> entries)
      : commands_(std::move(commands)), entries_(entries) {}

  const std::string& commands() const { return commands_; }
  std::vector<std::string> names() const;
  /// Of a name with dashes or underscores; null where there is none.
  const char* find(const std::string& name) const;
  /// Of a built-in recipe, else of a file. Throws Error(kUsage) with the names where it is neither.
  std::string read(const std::string& name_or_file) const;

 private:
  std::string commands_;
  std::span<const Entry> entries_;
};

/// For `quell quantize`: see recipe.h.
const RecipeLibrary& quantization_recipes();
/// For `quell train` and `quell distill`: see train/training_recipe.h.
const RecipeLibrary& training_recipes();

}  // namespace quell
