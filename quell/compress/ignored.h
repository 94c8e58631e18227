// Which linears the patterns of a recipe leave in float.
#pragma once

#include "quell/compress/recipe.h"
#include "quell/model/model.h"

namespace quell {

/// Puts the module names of the linears that `recipe.ignore` means in its place. Patterns match
/// checkpoint names (of modules, and of their weights) and the names that reports and messages use:
/// of linears ("layers.0.fc1"), and whole, of sites
/// ("layers.0.q_proj+k_proj+v_proj"). Throws Error(kUsage) for a pattern that matches no linear,
/// with names that are near to it.
void resolve_ignored(const Model& model, Recipe& recipe);

/// A glob, or re:REGEX anchored at the start. Throws Error(kUsage) where it is not a valid one.
bool matches_pattern(const std::string& pattern, const std::string& name);

}  // namespace quell
