#include "quell/engine/lower.h"

#include "quell/base/error.h"
#include "quell/engine/fuse.h"
#include "quell/engine/lowered_op.h"

namespace quell {
namespace {

OpTable lower_all(const Model& model, const LoweredOps& integer) {
  OpTable ops(static_cast<std::size_t>(model.graph.num_nodes()));
  for (NodeId n = 0; n < model.graph.num_nodes(); ++n) {
    if (!model.graph.node(n).op->product || integer.product(n)) continue;
    const Param& p = model.param_of(n);
    std::unique_ptr<LinearOp>& op = ops[static_cast<std::size_t>(n)];
    if (p.quantized)
      op = make_dequantized_op(model, n);
    else
      op = make_float_op(model, n);
  }
  return ops;
}

class IntegerModel final : public ForwardModel {
 public:
  IntegerModel(const Model& model, ExecContext& ctx)
      : model_(model),
        integer_(model, ctx.isa),
        ops_(lower_all(model, integer_)),
        graph_(integer_.fuse()) {}
  void forward(const TokenBatch& batch, ForwardOutputs& outputs, ExecContext& ctx) const override {
    run_forward(model_, graph_, ops_, true, batch, outputs, ctx);
  }
  const Model& model() const override { return model_; }

 private:
  const Model& model_;
  LoweredOps integer_;
  OpTable ops_;
  Graph graph_;
};

}  // namespace

std::unique_ptr<ForwardModel> lower(const Model& model, ExecContext& ctx) {
  require(model.is_quantized(), ErrorCode::kUsage, model.dir.path().string(),
          ": holds no quantized weights; run `quell quantize` first, or use --engine float");
  return std::make_unique<IntegerModel>(model, ctx);
}

std::vector<LoweredNode> describe_lowering(const Model& model, ExecContext& ctx) {
  std::vector<LoweredNode> out;
  const LoweredOps integer(model, ctx.isa, true);
  const Graph lowered = integer.fuse();
  for (NodeId n = 0; n < model.graph.num_nodes(); ++n) {
    const LoweredOp* op = lowered.node(n).op->lowered;
    const bool covered = lowered.is_removed(n) && !model.graph.is_removed(n);
    LoweredNode row{model.node_name(n), "f32", "", 0, 0, 0};
    if (model.graph.node(n).op->product) {
      const Param& p = model.param_of(n);
      row.rows = model.weight_of(p).rows();
      row.columns = model.weight_of(p).cols();
      row.bytes = static_cast<std::size_t>(row.rows * row.columns) * sizeof(float);
      if (const IntegerProduct* product = integer.product(n)) {
        row.kernel = product->describe();
        row.bytes = product->packed_bytes();
      } else {
        row.kernel = "f32 (oneDNN): " + integer.why_not(n);
      }
    } else if (!op && !covered) {
      continue;
    }
    if (op) row.fused = op->describe(lowered.node(n));
    if (covered) row.fused = "inside an operator above";
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace quell
