#include "quell/ops/likelihood.h"

#include <algorithm>
#include <cmath>

namespace quell {

double log_sum_exp(std::span<const float> logits) {
  const double high = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const float v : logits) sum += std::exp(static_cast<double>(v) - high);
  return high + std::log(sum);
}

double negative_log_likelihood(std::span<const float> logits, std::int32_t target) {
  return log_sum_exp(logits) - static_cast<double>(logits[static_cast<std::size_t>(target)]);
}

}  // namespace quell
