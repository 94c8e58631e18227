// What a batch norm computes, for its op and for whoever folds it into something else.
#pragma once

#include "quell/graph/ops.h"

namespace quell {

/// Vectors of its parameter (ParamDef::vectors).
enum BatchNormVector : std::size_t { kRunningMean, kRunningVariance };

struct BatchNormTensors {
  TensorView weight;  ///< without elements: 1
  TensorView bias;    ///< without elements: 0
  TensorView mean;
  TensorView variance;
};

/// x * scale + shift by channel, computed in double and rounded once.
ChannelAffine batch_norm_affine(const BatchNormTensors& norm, double eps);

}  // namespace quell
