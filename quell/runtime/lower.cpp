#include "quell/runtime/lower.h"

#include "quell/base/error.h"
#include "quell/quant/quantized_linear.h"

namespace quell {
namespace {

std::unique_ptr<LinearOp> lower_linear(const Model& model, int node, ExecContext& ctx) {
  const Param& p = model.param_of(node);
  if (!p.quantized) return std::make_unique<FloatLinear>(model.weight_of(p), p.bias);
  if (reads_constant(model, node)) return make_dequantized_op(model, node);
  const auto input = model.input_quant.find(model.graph.nodes[static_cast<std::size_t>(node)].in[0]);
  require(input != model.input_quant.end(), ErrorCode::kInvalidInput, model.node_name(node),
          ": quantized weights without an input quantizer");
  try {
    return make_integer_linear(*p.quantized, p.bias, input->second, ctx.isa, false);
  } catch (const Error& e) {
    throw Error(e.code(), model.node_name(node) + ": " + e.what());
  }
}

OpTable lower_all(const Model& model, ExecContext& ctx) {
  OpTable ops(model.graph.nodes.size());
  for (std::size_t n = 0; n < ops.size(); ++n)
    if (model.graph.nodes[n].kind == StepKind::kLinear) ops[n] = lower_linear(model, static_cast<int>(n), ctx);
  return ops;
}

}  // namespace

std::unique_ptr<ForwardModel> lower(const Model& model, ExecContext& ctx) {
  require(model.is_quantized(), ErrorCode::kUsage, model.dir.string(),
          ": holds no quantized weights; run `quell quantize` first, or use --engine float");
  return make_step_model(model, lower_all(model, ctx), true);
}

std::vector<LoweredLinear> describe_lowering(const Model& model, ExecContext& ctx) {
  std::vector<LoweredLinear> out;
  for (std::size_t n = 0; n < model.graph.nodes.size(); ++n) {
    if (model.graph.nodes[n].kind != StepKind::kLinear) continue;
    const Tensor& w = model.weight_of(model.param_of(static_cast<int>(n)));
    LoweredLinear row{model.node_name(static_cast<int>(n)), "", w.rows(), w.cols()};
    try {
      row.kernel = lower_linear(model, static_cast<int>(n), ctx)->describe();
    } catch (const Error& e) {
      row.kernel = std::string("none: ") + e.what();
    }
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace quell
