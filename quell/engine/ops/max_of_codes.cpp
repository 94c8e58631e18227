// A pool of largest values whose operand and result have one quantizer.
#include "quell/engine/lowered_op.h"
#include "quell/quant/pooled_codes.h"

namespace quell {
namespace {

void run(Executor& executor, NodeId n) {
  const Node& node = executor.graph().node(n);
  const auto& a = node.attributes.get<MaxOfCodesAttributes>();
  const RowSpace& rows = executor.graph().value(node.in[0]).type.rows;
  const ImageSize image = image_size(rows, node.label);
  const TapTable taps =
      make_taps(image, a.pool.window, windows_over(image, a.pool.window, a.pool.ceil));

  const QuantizedRows& x = executor.codes(node.in[0], a.quant, false);
  const std::int64_t images = x.rows / image.pixels();
  QuantizedRows out = make_quantized_rows(images * taps.out.pixels(), x.columns, a.quant,
                                          executor.code_stride(node.out));
  max_of_codes(x, taps, out, executor.ctx());
  executor.set_codes(node.out, std::move(out));
}

std::string describe(const Node&) { return "max pool, codes to codes"; }

constexpr LoweredOp kLowered{run, describe};

}  // namespace

const OpDef op_max_of_codes = {.name = "max_of_codes", .lowered = &kLowered};

}  // namespace quell
