// How a model is trained: quantizers, objective, optimizer, schedule. Read from YAML; the built-in
// ones (recipes/training) document every key.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "quell/io/method_params.h"
#include "quell/train/dropout.h"
#include "quell/train/objective.h"
#include "quell/train/optimizers/optimizer.h"
#include "quell/train/optimizers/schedule.h"

namespace quell::train {

/// Which training quantizer stands where; nothing: floats.
struct QuantizerChoices {
  std::optional<MethodParams> weights;      ///< of the linears of layers, and of poolers
  std::optional<MethodParams> embeddings;   ///< the word table, and a head that is tied to it
  std::optional<MethodParams> head;         ///< what such a head reads; else it multiplies floats
  std::optional<MethodParams> activations;  ///< what those linears read
  std::optional<MethodParams> attention;    ///< query, key and value as the products read them
  std::optional<MethodParams> map;          ///< attention probabilities
  /// Tokens that the clips of weights are searched with before training; 0: they are not.
  std::int64_t clip_search = 0;

  bool any() const { return weights || embeddings || head || activations || attention || map; }
};

struct TrainingRecipe {
  std::string name;
  QuantizerChoices quantizers;
  std::vector<TermChoice> objective;

  std::string optimizer = "adamw";  ///< adamw, bert_adam, sgd
  AdamOptions adam;
  double momentum = 0.9;  ///< sgd
  double learning_rate = 5e-5;
  double quantizer_learning_rate = 1;  ///< of learned steps and clips, times that of weights
  double weight_decay = 0.01;          ///< of matrices; vectors have none
  ClipNorm clip = ClipNorm::kGlobal;
  double clip_norm = 1;  ///< 0: gradients are not clipped
  Schedule schedule;

  std::int64_t batch_size = 32;
  std::int64_t accumulate = 1;  ///< batches a step
  double epochs = 3;
  std::int64_t steps = 0;  ///< instead of epochs, where it is not 0
  std::int64_t max_seq_length = 128;
  DropoutRates dropout;
  double freeze_at = 0.8;       ///< share of the steps behind which static steps stay as they are
  std::int64_t eval_every = 0;  ///< steps; 0: once an epoch
};

/// Throws Error(kInvalidInput) with file, key and remedy.
TrainingRecipe parse_training_recipe(const std::string& yaml, const std::string& source);

/// A built-in recipe (compress/recipe_library.h), or a file. Throws Error(kUsage) where it is
/// neither.
TrainingRecipe load_training_recipe(const std::string& name_or_file);

/// "W2A8", "W1.58A8 E2" (quant/scheme.h): sets bits of the recipe's quantizers; embeddings that it
/// quantizes have those of weights where nothing is said of them. Throws
/// Error(kUsage) where the recipe's methods cannot have so many.
void set_training_scheme(TrainingRecipe& recipe, const std::string& scheme);

/// Everything the recipe asks for, on one line: equal texts do equal work.
std::string canonical_text(const TrainingRecipe& recipe);

}  // namespace quell::train
