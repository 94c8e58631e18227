// Means of products' outputs, in the float and in the quantized model: what bias correction gives
// back.
#pragma once

#include <memory>
#include <vector>

#include "quell/engine/executor.h"

namespace quell {

using Executors = std::vector<std::unique_ptr<Executor>>;  ///< one a batch

/// Whether bias correction takes care of a node's outputs: a product with a bias of its own.
/// Weights that several nodes share have no one mean; a bias that is not there would cost at run
/// time.
bool takes_bias_correction(const Model& model, NodeId node);

/// Of wanted - got, per column [N], over the rows that count of all batches.
Tensor mean_difference(const Executors& wanted, const Executors& got, ValueId value);

/// value += delta [N] in every row.
void add_to_rows(const Executors& executors, ValueId value, const Tensor& delta);

}  // namespace quell
