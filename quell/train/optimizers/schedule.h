// Learning rates over a run.
#pragma once

#include <cstdint>

namespace quell::train {

enum class Decay { kConstant, kLinear, kCosine };

/// What the learning rate is multiplied with at `step` (from 0) of `total`: from 0 up to 1 over the
/// first `warmup` of the run, then 1, or down to 0 at its end and 0 behind it. BERT's is linear
/// with a warm-up of 0.1; its first step has 0.
struct Schedule {
  Decay decay = Decay::kLinear;
  double warmup = 0.1;  ///< share of the run, in [0, 1)

  double factor(std::int64_t step, std::int64_t total) const;
};

}  // namespace quell::train
