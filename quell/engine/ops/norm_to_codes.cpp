// A norm whose readers take codes: they are made while its row is in the cache.
#include "quell/engine/lowered_op.h"
#include "quell/kernels/rows/rows.h"

namespace quell {
namespace {

void run(Executor& executor, NodeId n) {
  const Node& node = executor.graph().node(n);
  const auto& a = node.attributes.get<NormToCodesAttributes>();
  const Param& p = executor.model().param(node.param);
  ExecContext& ctx = executor.ctx();

  Tensor storage;
  const TensorView x = executor.operand(node.in[0], storage);
  Tensor y = a.f32 ? Tensor::uninitialized(DType::kF32, x.shape()) : Tensor();
  QuantizedRows codes = make_quantized_rows(x.rows(), x.cols(), a.output);

  const kernels::CodeArgs args = code_args(a.output.spec, a.output.qparams);
  const kernels::RowKernels& rows = kernels::row_kernels(ctx.isa);
  const bool centred = a.norm.kind == NormKind::kLayerNorm;
  const float* weight = p.weight.defined() ? p.weight.f32().data() : nullptr;
  const float* bias = p.bias.defined() ? p.bias.f32().data() : nullptr;
  ctx.pool.parallel_for(x.rows(), 32, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      rows.normalize(centred, x.row(i), weight, bias, a.norm.eps, x.cols(),
                     {a.f32 ? y.row(i) : nullptr, codes.row(i), args});
  });

  if (a.f32) executor.set(node.out, std::move(y));
  executor.set_codes(node.out, std::move(codes));
}

std::string describe(const Node& node) {
  const auto& a = node.attributes.get<NormToCodesAttributes>();
  return a.f32 ? "norm, writes codes and f32" : "norm, writes codes";
}

constexpr LoweredOp kLowered{run, describe};

}  // namespace

const OpDef op_norm_to_codes = {.name = "norm_to_codes", .row_by_row = true, .lowered = &kLowered};

}  // namespace quell
