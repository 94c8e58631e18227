#include "quell/quant/adam.h"

#include <cmath>
#include <numbers>

namespace quell {

void Adam::step(std::span<const double> gradients, std::span<float> parameters,
                double learning_rate) {
  constexpr double kMean = 0.9, kSquare = 0.999, kEpsilon = 1e-8;
  ++done_;
  const double mean_bias = 1 - std::pow(kMean, static_cast<double>(done_)),
               square_bias = 1 - std::pow(kSquare, static_cast<double>(done_));
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    mean_[i] = kMean * mean_[i] + (1 - kMean) * gradients[i];
    square_[i] = kSquare * square_[i] + (1 - kSquare) * gradients[i] * gradients[i];
    const double change =
        learning_rate * (mean_[i] / mean_bias) / (std::sqrt(square_[i] / square_bias) + kEpsilon);
    parameters[i] = static_cast<float>(static_cast<double>(parameters[i]) - change);
  }
}

void CosineAdam::step(std::span<const double> gradients, std::span<float> parameters) {
  if (done_ >= steps_) return;
  const double turn = std::numbers::pi * static_cast<double>(done_++) / static_cast<double>(steps_);
  adam_.step(gradients, parameters, learning_rate_ * (1 + std::cos(turn)) / 2);
}

}  // namespace quell
