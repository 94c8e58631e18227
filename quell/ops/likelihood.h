// Log-likelihoods of logits, in double.
#pragma once

#include <cstdint>
#include <span>

namespace quell {

double log_sum_exp(std::span<const float> logits);
/// -log softmax(logits)[target].
double negative_log_likelihood(std::span<const float> logits, std::int32_t target);

}  // namespace quell
