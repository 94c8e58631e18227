#include "quell/runtime/lower.h"

#include "quell/base/error.h"
#include "quell/runtime/fuse.h"

namespace quell {
namespace {

OpTable lower_all(const Model& model, const LoweredOps& integer) {
  OpTable ops(model.graph.nodes.size());
  for (std::size_t n = 0; n < ops.size(); ++n) {
    if (model.graph.nodes[n].kind != StepKind::kLinear || integer.linear(static_cast<int>(n)))
      continue;
    const Param& p = model.param_of(static_cast<int>(n));
    ops[n] = p.quantized ? make_dequantized_op(model, static_cast<int>(n))
                         : std::make_unique<FloatLinear>(model.weight_of(p), p.bias);
  }
  return ops;
}

class IntegerModel final : public ForwardModel {
 public:
  IntegerModel(const Model& model, ExecContext& ctx)
      : model_(model),
        integer_(model, ctx.isa),
        ops_(lower_all(model, integer_)),
        fused_(integer_.fuse()) {}
  void forward(const TokenBatch& batch, ForwardOutputs& outputs, ExecContext& ctx) const override {
    run_forward(model_, ops_, fused_, true, batch, outputs, ctx);
  }
  const Model& model() const override { return model_; }

 private:
  const Model& model_;
  LoweredOps integer_;
  OpTable ops_;
  FusionTable fused_;
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
  const FusionTable fused = integer.fuse();
  for (std::size_t n = 0; n < model.graph.nodes.size(); ++n) {
    const int node = static_cast<int>(n);
    const StepKind kind = model.graph.nodes[n].kind;
    LoweredNode row{model.node_name(node), "f32", "", 0, 0, 0};
    if (kind == StepKind::kLinear) {
      const Param& p = model.param_of(node);
      row.rows = model.weight_of(p).rows();
      row.columns = model.weight_of(p).cols();
      row.bytes = static_cast<std::size_t>(row.rows * row.columns) * sizeof(float);
      if (const IntegerLinear* linear = integer.linear(node)) {
        row.kernel = linear->describe();
        row.bytes = linear->packed_bytes();
      } else {
        row.kernel = "f32 (oneDNN): " + integer.why_not(node);
      }
    } else if (!fused.ops[n] && !(fused.covered[n])) {
      continue;
    }
    if (fused.ops[n]) row.fused = fused.ops[n]->describe();
    if (fused.covered[n]) row.fused = "inside an operator above";
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace quell
