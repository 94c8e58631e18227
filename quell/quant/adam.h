// Adam, for the few hundred numbers that steps are, and for the choices of a matrix.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace quell {

/// Adam (Kingma and Ba, 2015) with torch's defaults.
class Adam {
 public:
  explicit Adam(std::size_t parameters) : mean_(parameters), square_(parameters) {}
  void step(std::span<const double> gradients, std::span<float> parameters, double learning_rate);

 private:
  std::int64_t done_ = 0;
  std::vector<double> mean_, square_;
};

/// The same with a learning rate that falls to 0 along half a cosine over `steps`.
class CosineAdam {
 public:
  CosineAdam(std::size_t parameters, double learning_rate, std::int64_t steps)
      : adam_(parameters), learning_rate_(learning_rate), steps_(steps) {}
  /// One step; more than `steps` of them change nothing.
  void step(std::span<const double> gradients, std::span<float> parameters);

 private:
  Adam adam_;
  double learning_rate_;
  std::int64_t steps_, done_ = 0;
};

}  // namespace quell
