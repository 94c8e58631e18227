// How long a quantization will take, from trying it on a part: a layer or two, and few tokens.
#pragma once

#include <optional>
#include <vector>

#include "quell/compress/recipe.h"
#include "quell/engine/engines.h"

namespace quell {

/// Seconds.
struct TimeEstimate {
  double calibrate = 0;  ///< forward passes, ranges of inputs, codes rounded to nearest
  /// What other passes take beyond that, site by site; nothing: not known, as networks without
  /// layers are not tried on a part.
  std::optional<double> search = 0;
  double ranges = 0;  ///< passes over the whole quantized model
};

/// Quantizes layers of `model`, which is of no use afterwards, with a part of `samples`, and takes
/// the time that all will take to be a constant and a part for each token, for each product of
/// weights and tokens alike. Throws what the run would throw.
TimeEstimate estimate_time(Model& model, const Recipe& recipe,
                           const std::vector<TokenBatch>& samples, ExecContext& ctx);

}  // namespace quell
