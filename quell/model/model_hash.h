// What a model is, as one hash: its configuration and the values of its parameters.
#pragma once

#include "quell/io/json.h"
#include "quell/io/tensor_hash.h"
#include "quell/model/model.h"

namespace quell {

/// Adds both to `hash`. Pages of weights that are mapped from a file are let go again.
inline void add_model(const Model& model, TensorHash& hash) {
  hash.add(model.config->dump());
  for (const Param& p : model.params) {
    hash.add(p.weight);
    p.weight.drop_pages();
    hash.add(p.bias);
    for (const Tensor& v : p.vectors) hash.add(v);
  }
}

}  // namespace quell
