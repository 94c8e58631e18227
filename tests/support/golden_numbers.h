// The generator of the specification's golden vectors.
#pragma once

#include <cstdint>

#include "quell/tensor/tensor.h"

namespace quell::testing {

/// A linear congruence, values in double, cast to f32.
class GoldenNumbers {
 public:
  explicit GoldenNumbers(std::uint32_t seed) : state_(seed) {}

  float next(double low, double high) {
    state_ = 1664525U * state_ + 1013904223U;
    return static_cast<float>(low + (high - low) * (state_ / 4294967296.0));
  }
  Tensor make(const Shape& shape, double low, double high) {
    Tensor t = Tensor::f32(shape);
    for (float& v : t.f32()) v = next(low, high);
    return t;
  }

 private:
  std::uint32_t state_;
};

/// 10 tokens of 4 channels from seed 3 in [-1, 1], row i times i + 1.
inline Tensor golden_tokens() {
  Tensor t = GoldenNumbers(3).make({10, 4}, -1, 1);
  for (std::int64_t i = 0; i < 10; ++i)
    for (std::int64_t j = 0; j < 4; ++j) t.row(i)[j] *= static_cast<float>(i + 1);
  return t;
}

}  // namespace quell::testing
