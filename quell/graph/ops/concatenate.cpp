// The channels of several values, one behind the other.
#include <algorithm>

#include "quell/base/error.h"
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) {
  ValueType type = like_operand(graph, node);
  type.columns = 0;
  for (const ValueId v : node.in) {
    const ValueType& operand = graph.value(v).type;
    require(operand.rows == type.rows, ErrorCode::kUnsupported, node.label,
            ": operands have different rows");
    type.columns += operand.columns;
  }
  return type;
}

Tensor reference(OpCall& call) {
  const std::size_t count = call.node().in.size();
  std::vector<TensorView> operands;
  std::int64_t columns = 0;
  for (std::size_t i = 0; i < count; ++i) {
    operands.push_back(call.in(i));
    columns += operands.back().cols();
  }

  Tensor out = Tensor::uninitialized(DType::kF32, {operands.front().rows(), columns});
  call.ctx().pool.parallel_for(out.rows(), 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      float* to = out.row(r);
      for (const TensorView& operand : operands)
        to = std::copy_n(operand.row(r), operand.cols(), to);
    }
  });
  return out;
}

}  // namespace

const OpDef op_concatenate = {
    .name = "concatenate", .infer = infer, .reference = reference, .row_by_row = true};

}  // namespace quell
