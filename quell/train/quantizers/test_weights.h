// Inputs of the quantizers' tests.
#pragma once

#include <torch/torch.h>

#include <cmath>
#include <map>
#include <numbers>
#include <string>

#include "quell/base/random.h"

namespace quell::train {

struct QuantizerChoice {
  using Settings = std::map<std::string, std::string>;
  std::string name;
  Settings settings;
};

/// Normally distributed, the same on every machine; f64.
inline torch::Tensor normal_weights(torch::IntArrayRef shape, std::uint64_t seed) {
  Random random(seed);
  torch::Tensor out = torch::empty(shape, torch::kFloat64);
  for (std::int64_t i = 0; i < out.numel(); ++i) {
    const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
    out.data_ptr<double>()[i] = radius * std::cos(2 * std::numbers::pi * random.uniform());
  }
  return out;
}

}  // namespace quell::train
