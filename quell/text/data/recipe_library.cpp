#include "quell/text/data/recipe_library.h"

#include <algorithm>
#include <filesystem>

#include "quell/base/error.h"
#include "quell/io/yaml_section.h"
#include "quell/text/data/text_file.h"

namespace quell {
namespace {

constexpr RecipeLibrary::Entry kQuantizationRecipes[] = {
#include "builtin_recipes.inc"
};
constexpr RecipeLibrary::Entry kTrainingRecipes[] = {
#include "training_recipes.inc"
};

constexpr std::int64_t kLargestRecipe = 1 << 20;  // bytes

std::string with_underscores(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

}  // namespace

std::vector<std::string> RecipeLibrary::names() const {
  std::vector<std::string> names;
  for (const Entry& entry : entries_) names.emplace_back(entry.name);
  return names;
}

const char* RecipeLibrary::find(const std::string& name) const {
  const std::string wanted = with_underscores(name);
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return wanted == entry.name; });
  return found == entries_.end() ? nullptr : found->text;
}

std::string RecipeLibrary::read(const std::string& name_or_file) const {
  if (const char* text = find(name_or_file)) return text;
  std::error_code ignored;
  if (std::filesystem::exists(name_or_file, ignored))
    return read_data_text(name_or_file, kLargestRecipe);

  for (const RecipeLibrary* other : {&quantization_recipes(), &training_recipes()})
    require(other == this || !other->find(name_or_file), ErrorCode::kUsage, "recipe \"",
            name_or_file, "\" is for ", other->commands(), "; for ", commands(), " there are ",
            comma_list(names()));
  throw Error(ErrorCode::kUsage, "recipe \"" + name_or_file +
                                     "\" is unknown: there is no such file, and built-in are " +
                                     comma_list(names()));
}

const RecipeLibrary& quantization_recipes() {
  static const RecipeLibrary library("quell quantize", kQuantizationRecipes);
  return library;
}

const RecipeLibrary& training_recipes() {
  static const RecipeLibrary library("quell train and quell distill", kTrainingRecipes);
  return library;
}

}  // namespace quell
