// Small graphs for tests, one or more for every op of ops/.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "quell/train/small_models.h"

namespace quell::train {

inline constexpr std::int32_t kVocabulary = 7;
inline constexpr std::int64_t kWidth = 8;

enum class Reads { kTokens, kTwoStacks, kPatches, kImages };

struct OpCase {
  std::string name;
  /// Of token embeddings [10, kWidth], or of pixels [2 * 5 * 4, 4].
  std::function<ValueId(ModelBuilder& g, ValueId x)> build;
  Reads reads = Reads::kTokens;
};

std::vector<OpCase> image_op_cases();
/// Those of images too.
std::vector<OpCase> op_cases();

Model model_of(const OpCase& c);
TokenBatch batch_of(const OpCase& c);

}  // namespace quell::train
