// Small models with random weights, for tests.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <string>

#include "quell/base/error.h"
#include "quell/model/family.h"
#include "quell/model/model.h"

namespace quell::train {

/// Matrices and biases of normal numbers, norms near one.
inline Model random_model(Architecture architecture, std::uint64_t seed = 1) {
  torch::manual_seed(seed);
  Model model = make_zero_model(std::move(architecture));
  const auto fill = [](Tensor& t, float mean, float deviation) {
    const torch::Tensor values = torch::randn(t.numel()) * deviation + mean;
    std::copy_n(values.data_ptr<float>(), values.numel(), t.f32().data());
  };
  for (Param& p : model.params) {
    const bool is_norm = p.weight.defined() && p.weight.shape().rank() == 1;
    if (p.weight.defined()) fill(p.weight, is_norm ? 1.0F : 0.0F, 0.4F);
    if (p.bias.defined()) fill(p.bias, 0.0F, 0.3F);
    for (Tensor& v : p.vectors) {
      fill(v, 0.5F, 0.1F);
      for (float& element : v.f32()) element = std::abs(element);
    }
  }
  return model;
}

/// What `f` throws; "" where it throws nothing.
inline std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

/// Two sequences of five tokens below `vocabulary`; the last two of the second are padding.
inline TokenBatch small_batch(std::int32_t vocabulary) {
  TokenBatch batch;
  batch.batch = 2;
  batch.length = 5;
  for (std::int32_t i = 0; i < 10; ++i) {
    batch.ids.push_back((3 * i + 1) % vocabulary);
    batch.mask.push_back(i < 8 ? 1 : 0);
    batch.type_ids.push_back(i % 2);
  }
  return batch;
}

}  // namespace quell::train
