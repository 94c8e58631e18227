// Ops that lowering puts into a graph in the place of the family's: one file each in engine/ops/.
// They read and write codes, and take along what stood behind them.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "quell/engine/executor.h"
#include "quell/graph/image_ops.h"
#include "quell/quant/quantized_linear.h"

namespace quell {

/// How the interpreter runs such an op.
struct LoweredOp {
  /// Leaves the node's value in f32, in codes, or in both.
  void (*run)(Executor& executor, NodeId n) = nullptr;
  /// One line for people.
  std::string (*describe)(const Node& node) = nullptr;
};

/// linear or convolution [+ activation [* up]] [+ residual] [+ clamp] on codes. Operands: what is
/// multiplied, the residual or none.
extern const OpDef op_integer_product;
struct IntegerProductAttributes {
  std::shared_ptr<const IntegerProduct> product;
  std::optional<ActivationKind> activation = {};  ///< one that kernels have
  bool is_gated = false;
  /// Of the codes to write; f32 where there is none.
  std::optional<ActivationQuant> output = {};
  /// With `output`: a ReLU or ReLU6 behind everything else.
  std::optional<ActivationKind> clamp = {};
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

/// Pixels to codes. Operand: the input of the model.
extern const OpDef op_image_to_codes;
struct ImageToCodesAttributes {
  ImageAttributes image;
  ActivationQuant output;
};

/// A pool of largest values on codes, which keep their quantizer.
extern const OpDef op_max_of_codes;
struct MaxOfCodesAttributes {
  PoolAttributes pool;
  ActivationQuant quant;
};

/// A pool of means, or the mean of all pixels, over codes; writes f32.
extern const OpDef op_mean_of_codes;
struct MeanOfCodesAttributes {
  std::optional<PoolAttributes> pool;  ///< none: one window over the whole image
  ActivationQuant input;
};
/// Whether the node is the mean of pixels, in windows or of all.
bool is_mean_of_pixels(const Node& node);
/// What computes the same on codes of the quantizer in front of it; nothing where there is none, or
/// it is not static per tensor.
std::optional<Node> mean_of_codes_node(const Graph& graph, const Node& node);

/// Scale and shift of attributes that may be empty, as kernels take them; null: none.
struct AffineColumns {
  const float* scale = nullptr;
  const float* shift = nullptr;
};
AffineColumns affine_columns_of(const Attributes& affine);

}  // namespace quell
