// What to do to a model, read from YAML. `quell recipes NAME` prints the built-in ones, which
// document every key.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "quell/io/method_params.h"
#include "quell/quant/observers/observer.h"

namespace quell {

/// Settings of one pass; the pass reads and checks them.
using PassParams = MethodParams;

struct Recipe {
  std::string name;
  QuantSpec weights, activations;
  ObserverChoice observer;
  std::int64_t batch_size = 16;
  bool quantize_attention = false;    ///< q, k, v and probabilities too
  bool residual_after_quant = false;  ///< residual branches read the fake-quantized value
  bool quantize_embeddings = false;   ///< tables, one step a row
  bool quantize_projections = false, quantize_head = false;
  bool quantize_lm_head =
      false;  ///< where it is tied to the embedding, it gets a matrix of its own
  /// Changes of what fc2 reads go through a ReLU into fc1, those of what out_proj reads through the
  /// attention into v.
  bool migrate_relu = false, migrate_attention = false;
  std::vector<std::string> ignore;  ///< module names, globs, or re:REGEX (anchored at the start)
  std::vector<PassParams> passes;   ///< in order
};

/// Sets the bits of both sides from "W8A8" and the like. Throws Error(kUsage).
void set_scheme(Recipe& recipe, const std::string& scheme);
std::string scheme_of(const Recipe& recipe);

/// Throws Error(kInvalidInput) with file, key and remedy. Aliases are refused (they could be
/// cyclic), duplicate and unknown keys too.
Recipe parse_recipe(const std::string& yaml, const std::string& source);

/// A built-in recipe (recipe_library.h), or a file. Throws Error(kUsage) where it is neither.
Recipe load_recipe(const std::string& name_or_file);

/// Everything a recipe asks for, on one line: equal texts do equal work.
std::string canonical_text(const Recipe& recipe);

bool is_ignored(const Recipe& recipe, const std::string& module);

}  // namespace quell
