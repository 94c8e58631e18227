// Activation functions on sixteen lanes: the one definition that the float engine, the simulations
// and the integer epilogues share.
#pragma once

#include "quell/kernels/simd/epilogue_types.h"
#include "quell/kernels/simd/simd.h"

namespace quell::kernels {
namespace {

/// x / (1 + exp(-k)): SiLU for k = x; GELU's tanh form for k = 2 sqrt(2/pi) (x + 0.044715 x^3),
/// since (1 + tanh u)/2 = 1/(1 + exp(-2u)).
QUELL_SIMD F32 gate_by_sigmoid(const F32& x, const F32& k) { return x / (1.0F + exp(0.0F - k)); }

/// Calls `body` with the function.
template <typename Body>
QUELL_SIMD void with_activation(Activation kind, Body body) {
  switch (kind) {
    case Activation::kNone: break;
    case Activation::kRelu: body([](const F32& v) { return max(v, splat(0.0F)); }); break;
    case Activation::kRelu6:
      body([](const F32& v) { return min(max(v, splat(0.0F)), splat(6.0F)); });
      break;
    case Activation::kGelu:
      body([](const F32& v) { return 0.5F * v * (1.0F + erf(v * 0.70710678118654752F)); });
      break;
    case Activation::kGeluTanh:
      body([](const F32& v) {
        return gate_by_sigmoid(v, 1.5957691216057308F * (v + 0.044715F * v * v * v));
      });
      break;
    case Activation::kSilu: body([](const F32& v) { return gate_by_sigmoid(v, v); }); break;
    case Activation::kTanh:
      body([](const F32& v) { return 2.0F / (1.0F + exp(-2.0F * v)) - 1.0F; });
      break;
  }
}

}  // namespace
}  // namespace quell::kernels
