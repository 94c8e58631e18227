// What an op is: one definition in one file of ops/. A node refers to its op and is complete with
// it; nothing else in the program lists ops.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "quell/base/exec_context.h"
#include "quell/graph/channel_rule.h"
#include "quell/graph/graph.h"
#include "quell/tensor/tensor.h"
#include "quell/text/data/token_batch.h"

namespace quell {

/// A node while it runs, as its op sees it. The interpreter implements it.
class OpCall {
 public:
  virtual ~OpCall() = default;
  virtual const Node& node() const = 0;
  virtual ExecContext& ctx() const = 0;
  /// Operand `i`: f32 [rows, columns], or i32 [rows] for ids and positions. Valid until the op
  /// returns.
  virtual TensorView in(std::size_t i) = 0;
  virtual bool has(std::size_t i) const { return node().operand(i) != kNoValue; }
  /// Weight and bias of the node's parameter; not defined() where it has none.
  virtual const Tensor& weight() const = 0;
  /// Rows of the weight, [ids, columns]: of a table that lies packed, no others are unpacked.
  /// Throws Error(kInvalidInput) on an id outside the table, `what` being what ids are of.
  virtual Tensor look_up(std::span<const std::int32_t> ids, std::string_view what) const;
  virtual const Tensor& bias() const = 0;
  /// Vector `i` of ParamDef::vectors.
  virtual const Tensor& vector(std::size_t i) const = 0;
  /// What the rows of operand `i` are.
  virtual RowSpace rows(std::size_t i) const = 0;
  /// The batch that binds the tokens of the node's stack, and of the first stack.
  virtual const TokenBatch& tokens() const = 0;
  virtual const TokenBatch& first_tokens() const = 0;

  template <typename T>
  const T& attributes() const {
    return node().attributes.get<T>();
  }
};

/// A node on the way back: gradients of a loss by its operands.
class GradientCall : public OpCall {
 public:
  /// dL/d(output), [rows, columns] as the output has them.
  virtual const Tensor& gradient() const = 0;
  /// The same, to be changed and handed on.
  virtual Tensor take_gradient() = 0;
  /// Adds dL/d(operand i).
  virtual void add(std::size_t i, Tensor gradient) = 0;
};

struct LoweredOp;

struct OpDef {
  std::string_view name;
  /// What the output is, given the types of the operands. Throws Error(kUnsupported) where they do
  /// not fit.
  ValueType (*infer)(const Graph& graph, const Node& node) = nullptr;
  /// How channels pass through it. Left out: it is a wall for every change of them, and reads
  /// values with their original meaning.
  ChannelRule channels = {};
  /// The output in f32: the reference of every other way to compute it.
  Tensor (*reference)(OpCall& call) = nullptr;
  /// Adds the gradients of its operands; null: learned steps are refused for graphs with this op.
  void (*gradient)(GradientCall& call) = nullptr;
  /// Each row of the output depends on the same row of the operands alone: batches may then lie
  /// without padding, and sequences be continued from a cache.
  bool row_by_row = false;
  /// Operand 0 times the matrix of its weight, and a bias, whatever windows it slides over rows on
  /// the way: it has an operator of its own (LinearOp), and quantized ones read codes.
  bool product = false;
  /// Computed where it is read, from the operand, and not kept: quantizers and what restores
  /// migrated values, which operators often take along.
  bool view = false;
  /// Of ops that lowering puts in, which read and write codes and have no reference: how the engine
  /// runs them (engine/lowered_op.h).
  const LoweredOp* lowered = nullptr;
};

/// One operand's rows with other columns; the same columns; constant where all operands are.
ValueType like_operand(const Graph& graph, const Node& node);
ValueType with_columns(const Graph& graph, const Node& node, std::int64_t columns);
/// One row a sequence of the first operand's tokens.
ValueType one_row_a_sequence(const Graph& graph, const Node& node);

/// Numeric factors said exactly; each engine rounds them once.
struct Factor {
  enum class Kind { kPlain, kSqrt, kInverseSqrt };
  double value = 1;
  Kind kind = Kind::kPlain;
  double divisor = 1;  ///< by which the whole is divided
  float f32() const;
  double f64() const;
  bool operator==(const Factor&) const = default;
};
inline Factor sqrt_of(double x) { return {x, Factor::Kind::kSqrt}; }
inline Factor inverse_sqrt_of(double x) { return {x, Factor::Kind::kInverseSqrt}; }

}  // namespace quell
