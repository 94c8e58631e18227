#include "quell/graph/op.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/ops/elementwise.h"

namespace quell {

Tensor OpCall::look_up(std::span<const std::int32_t> ids, std::string_view what) const {
  Tensor out =
      Tensor::uninitialized(DType::kF32, {static_cast<std::int64_t>(ids.size()), weight().cols()});
  gather_rows(weight(), ids, what, out.span());
  return out;
}

ValueType like_operand(const Graph& graph, const Node& node) {
  require(node.operand(0) != kNoValue, ErrorCode::kUnsupported, node.op->name,
          ": needs an operand");
  ValueType type = graph.value(node.in[0]).type;
  const auto constant = [&](ValueId v) { return v == kNoValue || graph.is_constant(v); };
  type.constant = std::all_of(node.in.begin(), node.in.end(), constant);
  return type;
}

ValueType with_columns(const Graph& graph, const Node& node, std::int64_t columns) {
  ValueType type = like_operand(graph, node);
  type.columns = columns;
  return type;
}

ValueType one_row_a_sequence(const Graph& graph, const Node& node) {
  ValueType type = like_operand(graph, node);
  require(type.rows.kind == RowSpace::Kind::kTokens, ErrorCode::kUnsupported, node.op->name,
          ": selects from tokens, and its operand has other rows");
  type.rows.kind = RowSpace::Kind::kSequences;
  return type;
}

float Factor::f32() const {
  const auto x = static_cast<float>(value);
  float f = x;
  if (kind == Kind::kSqrt) f = std::sqrt(x);
  if (kind == Kind::kInverseSqrt) f = 1.0F / std::sqrt(x);
  return divisor == 1 ? f : f / static_cast<float>(divisor);
}

double Factor::f64() const {
  double f = value;
  if (kind == Kind::kSqrt) f = std::sqrt(value);
  if (kind == Kind::kInverseSqrt) f = 1 / std::sqrt(value);
  return f / divisor;
}

}  // namespace quell
