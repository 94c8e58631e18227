// The threshold search of Outlier Suppression+ (Wei et al., EMNLP 2023, section 4;
// docs/numerics.md): which outlier threshold t makes the quantized site reproduce its float output
// best.
//   s_j(t) = max(1, max_j / t, min_j / -t), and a static activation quantizer gets the range (-t,
//   t)
// t runs from the largest magnitude down to `floor` in num = max(100, int(max / 0.5)) steps; the
// largest t wins ties.
#pragma once

#include <vector>

#include "quell/compress/site_objective.h"

namespace quell {

/// How thresholds run down from the largest magnitude: to the floor in equal steps, as the
/// reference's code has it, or to a K-th of it (max * k / K), as the paper's algorithm 1. K is
/// max(100, int(max / 0.5)) in both.
enum class ThresholdGrid { kCode, kPaper };

struct OsPlusOptions {
  double floor = 1.0;
  ThresholdGrid grid = ThresholdGrid::kCode;  ///< kPaper knows no floor
  bool include_padding = false;  ///< channel extrema over padding too, as the reference
  /// The quantizer's range is what the scaled channels span, not (-t, t): for values that are not
  /// centred by a shift.
  bool tight_range = false;
  /// So many columns at most that channels above a threshold are spread over, in multiples of the
  /// unit; 0: channels are only scaled.
  std::int64_t split_columns = 0, split_unit = 16;
  /// No threshold below what this share of the channels reaches: channels that the samples left at
  /// rest may reach it too. 0: any.
  double peers = 0;
  /// Scales are made from the even batches and compared on the odd ones, where there are two: a
  /// threshold that is right only for the extrema it was derived from loses. The winner's scales
  /// are then made from all.
  bool holdout = false;
  RaceOptions race;
};

struct OsPlusResult {
  std::vector<double>
      thresholds;   ///< every candidate in the order of the grid, then those that split channels
  RaceResult race;  ///< best = -1: no candidate (all magnitudes below the floor), scale 1
  Tensor scale;     ///< by column
  ColumnSources sources;  ///< empty: no channel is split
  Tensor shift;           ///< of the copies; undefined: none
  Range range;            ///< of the quantizer that the winner was tried with
};

OsPlusResult search_threshold(const SiteProblem& problem, const OsPlusOptions& options,
                              ExecContext& ctx);

}  // namespace quell
