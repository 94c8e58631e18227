// The threshold search of Outlier Suppression+ (Wei et al., EMNLP 2023, section 4; docs/numerics.md): which outlier threshold t
// makes the quantized site reproduce its float output best.
//   s_j(t) = max(1, max_j / t, min_j / -t), and a static activation quantizer gets the range (-t, t)
// t runs from the largest magnitude down to `floor` in num = max(100, int(max / 0.5)) steps; the largest t wins ties.
#pragma once

#include <vector>

#include "quell/compress/site_objective.h"

namespace quell {

struct OsPlusOptions {
  double floor = 1.0;
  bool include_padding = false;  ///< channel extrema over padding too, as the reference
  /// The quantizer's range is what the scaled channels span, not (-t, t): for values that are not centred by a shift.
  bool tight_range = false;
  RaceOptions race;
};

struct OsPlusResult {
  std::vector<double> thresholds;  ///< every candidate in the order of the grid
  RaceResult race;                 ///< best = -1: no candidate (all magnitudes below the floor), scale 1
  Tensor scale;                    ///< [C]
};

OsPlusResult search_threshold(const SiteProblem& problem, const OsPlusOptions& options, ExecContext& ctx);

}  // namespace quell
