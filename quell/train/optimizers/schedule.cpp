#include "quell/train/optimizers/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace quell::train {

double Schedule::factor(std::int64_t step, std::int64_t total) const {
  const double progress = static_cast<double>(step) / static_cast<double>(total);
  if (progress < warmup) return progress / warmup;
  if (decay == Decay::kConstant) return 1;

  const double left = std::max((progress - 1) / (warmup - 1), 0.0);
  if (decay == Decay::kLinear) return left;
  return (1 - std::cos(std::numbers::pi * left)) / 2;
}

}  // namespace quell::train
