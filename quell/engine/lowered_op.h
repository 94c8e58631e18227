// Ops that lowering puts into a graph in the place of the family's: one file each in engine/ops/.
// They read and write codes, and take along what stood behind them.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "quell/engine/executor.h"
#include "quell/quant/quantized_linear.h"

namespace quell {

/// How the interpreter runs such an op.
struct LoweredOp {
  /// Leaves the node's value in f32, in codes, or in both.
  void (*run)(Executor& executor, NodeId n) = nullptr;
  /// One line for people.
  std::string (*describe)(const Node& node) = nullptr;
};

/// linear [+ activation [* up]] [+ residual] on codes. Operands: what is multiplied, the residual
/// or none.
extern const OpDef op_integer_linear;
struct IntegerLinearAttributes {
  std::shared_ptr<const IntegerLinear> linear;
  kernels::Activation activation = kernels::Activation::kNone;
  /// Of the codes to write; f32 where there is none.
  std::optional<ActivationQuant> output = {};
  Attributes affine = {};  ///< ChannelAffine: the codes are those of (y - shift) / scale
  std::string what = "linear";
};

/// A norm that writes codes.
extern const OpDef op_norm_to_codes;
struct NormToCodesAttributes {
  NormAttributes norm;
  ActivationQuant output;
  bool f32 = false;  ///< and f32, since something reads that
};

/// Attention on codes in both products. Operands: those of the attention.
extern const OpDef op_integer_attention;
struct IntegerAttentionAttributes {
  Node attention;      ///< as the family said it, with its quantizers
  bool exact = false;  ///< plain loops instead of kernels, same bytes
  std::optional<ActivationQuant> output = {};
  Attributes affine = {};
};
/// Whether the model quantizes all of q, k, v and the probabilities with static steps.
bool has_integer_attention(const Node& attention);
/// What computes the same on codes, in f32 behind.
Node integer_attention_node(const Node& attention, bool exact);

/// Scale and shift of attributes that may be empty, as kernels take them; null: none.
struct AffineColumns {
  const float* scale = nullptr;
  const float* shift = nullptr;
};
AffineColumns affine_columns_of(const Attributes& affine);

}  // namespace quell
