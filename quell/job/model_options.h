// Options of a command that only mean something for some models.
#pragma once

#include <initializer_list>

#include "quell/compress/recipe.h"
#include "quell/model/model.h"

namespace quell {

struct GivenOption {
  bool given = false;
  const char* name = "";
};

/// Throws Error(kUsage) naming the given ones of `options`, which are about texts, where the model
/// reads images.
void refuse_text_options(const Model& model, std::initializer_list<GivenOption> options);

/// A warning that names what the recipe asks for and a network of images has no use for: passes
/// that leave convolutions alone, and parts that it does not have.
void warn_of_unused(const Model& model, const Recipe& recipe);

}  // namespace quell
