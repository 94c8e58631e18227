// The mean of each channel over all pixels of an image: one row an image.
#include "quell/graph/image_ops.h"

namespace quell {
namespace {

ValueType infer(const Graph& graph, const Node& node) {
  ValueType type = like_operand(graph, node);
  image_size(type.rows, node.label);
  type.rows = {RowSpace::Kind::kSequences, type.rows.stack};
  return type;
}

Tensor reference(OpCall& call) {
  const TensorView x = call.in(0);
  const std::int64_t pixels = image_size(call.rows(0), call.node().label).pixels();
  Tensor out = Tensor::uninitialized(DType::kF32, {num_images(call, 0), x.cols()});

  call.ctx().pool.parallel_for(out.rows(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      std::vector<double> sums(static_cast<std::size_t>(x.cols()));
      for (std::int64_t p = 0; p < pixels; ++p)
        for (std::int64_t c = 0; c < x.cols(); ++c)
          sums[static_cast<std::size_t>(c)] += static_cast<double>(x.row(b * pixels + p)[c]);
      for (std::int64_t c = 0; c < x.cols(); ++c)
        out.row(b)[c] =
            static_cast<float>(sums[static_cast<std::size_t>(c)] / static_cast<double>(pixels));
    }
  });
  return out;
}

ChannelPass pass(const Node&) { return {.change = ChannelChange::kScaleAndShift}; }

}  // namespace

const OpDef op_global_mean = {.name = "global_mean",
                              .infer = infer,
                              .channels = {.kind = ChannelKind::kEach, .pass = pass},
                              .reference = reference};

}  // namespace quell
