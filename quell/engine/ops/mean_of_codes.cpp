// The mean of pixels of one quantizer: of windows, or of the whole image.
#include <limits>

#include "quell/engine/lowered_op.h"
#include "quell/graph/forms.h"
#include "quell/quant/pooled_codes.h"

namespace quell {
namespace {

void run(Executor& executor, NodeId n) {
  const Node& node = executor.graph().node(n);
  const auto& a = node.attributes.get<MeanOfCodesAttributes>();
  const RowSpace& rows = executor.graph().value(node.in[0]).type.rows;
  const ImageSize image = image_size(rows, node.label);
  const Window whole{.kernel_height = image.height, .kernel_width = image.width};
  const PoolAttributes pool = a.pool.value_or(PoolAttributes{.window = whole});
  const TapTable taps = make_taps(image, pool.window, windows_over(image, pool.window, pool.ceil));

  const QuantizedRows& x = executor.codes(node.in[0], a.input, false);
  const std::int64_t images = x.rows / image.pixels();
  Tensor y = Tensor::uninitialized(DType::kF32, {images * taps.out.pixels(), x.columns});
  const auto divisor = [&](std::int64_t at_y, std::int64_t at_x, std::int64_t inside) {
    return pool_divisor(pool, image, at_y, at_x, inside);
  };
  mean_of_codes(x, taps, divisor, y.span(), executor.ctx());
  executor.set(node.out, std::move(y));
}

std::string describe(const Node&) { return "mean of codes, writes f32"; }

constexpr LoweredOp kLowered{run, describe};

}  // namespace

bool is_mean_of_pixels(const Node& node) {
  if (node.is(op_global_mean)) return true;
  return node.is(op_pool) && node.attributes.get<PoolAttributes>().kind == PoolKind::kAverage;
}

std::optional<Node> mean_of_codes_node(const Graph& graph, const Node& node) {
  if (!is_mean_of_pixels(node) || !graph.is_from(node.in[0], op_quantize)) return std::nullopt;
  const ActivationQuant& input = quantizer_of(graph.producer_of(node.in[0]));
  if (!is_static_per_tensor(input) || input.groups) return std::nullopt;

  MeanOfCodesAttributes attributes{.pool = std::nullopt, .input = input};
  if (node.is(op_pool)) attributes.pool = node.attributes.get<PoolAttributes>();
  // Sums of so many codes would not fit 32 bits: the mean stays in f32.
  constexpr std::int64_t kMostPixels = std::numeric_limits<std::int32_t>::max() / 255;
  const std::int64_t pixels =
      attributes.pool ? attributes.pool->window.taps()
                      : image_size(graph.value(node.in[0]).type.rows, node.label).pixels();
  if (pixels > kMostPixels) return std::nullopt;
  Node by = node;
  by.op = &op_mean_of_codes;
  by.attributes = Attributes::of(std::move(attributes));
  by.in = {concrete(graph, node.in[0])};
  return by;
}

const OpDef op_mean_of_codes = {.name = "mean_of_codes", .lowered = &kLowered};

}  // namespace quell
