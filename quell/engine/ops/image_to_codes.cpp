// The pixels of an image, from planes to rows of codes.
#include <algorithm>

#include "quell/engine/lowered_op.h"
#include "quell/kernels/rows/rows.h"

namespace quell {
namespace {

/// Pixels [first, first + count) of an image. Planes lie `pixels` apart.
struct Pixels {
  const float* planes;
  std::int64_t channels, pixels, first, count;

  const float* plane(std::int64_t channel) const { return planes + channel * pixels + first; }
};

/// One plane at a time becomes codes, which are then put side by side.
void put_side_by_side(const Pixels& image, const kernels::RowKernels& rows,
                      const kernels::CodeArgs& args, std::uint8_t* to, std::int64_t stride) {
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(image.count));
  for (std::int64_t c = 0; c < image.channels; ++c) {
    rows.quantize(image.plane(c), image.count, args, codes.data());
    for (std::int64_t p = 0; p < image.count; ++p)
      to[p * stride + c] = codes[static_cast<std::size_t>(p)];
  }
}

/// The same where a pixel is four bytes.
void put_in_fours(const Pixels& image, const kernels::RowKernels& rows,
                  const kernels::CodeArgs& args, std::uint8_t* to) {
  const float* planes[4] = {};
  for (std::int64_t c = 0; c < image.channels; ++c) planes[c] = image.plane(c);
  rows.quantize_pixels(planes, image.channels, image.count, args, to);
}

void run(Executor& executor, NodeId n) {
  const Node& node = executor.graph().node(n);
  const auto& a = node.attributes.get<ImageToCodesAttributes>();
  const std::int64_t channels = a.image.channels;
  const std::int64_t pixels = a.image.size.pixels();
  ExecContext& ctx = executor.ctx();
  Tensor storage;
  const TensorView planes = executor.operand(node.in[0], storage);
  const std::int64_t images = planes.numel() / (channels * pixels);

  QuantizedRows out =
      make_quantized_rows(images * pixels, channels, a.output, executor.code_stride(node.out));
  const kernels::RowKernels& rows = kernels::row_kernels(ctx.isa);
  const kernels::CodeArgs args = code_args(a.output.spec, a.output.qparams);
  constexpr std::int64_t kPixels = 4096;
  const std::int64_t blocks = (pixels + kPixels - 1) / kPixels;
  ctx.pool.parallel_for(images * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t image = task / blocks;
      const std::int64_t first = task % blocks * kPixels;
      const Pixels of{planes.f32().data() + image * channels * pixels, channels, pixels, first,
                      std::min(kPixels, pixels - first)};
      std::uint8_t* to = out.row(image * pixels + first);
      if (out.stride == 4)
        put_in_fours(of, rows, args, to);
      else
        put_side_by_side(of, rows, args, to, out.stride);
    }
  });
  executor.set_codes(node.out, std::move(out));
}

std::string describe(const Node&) { return "image, writes codes"; }

constexpr LoweredOp kLowered{run, describe};

}  // namespace

const OpDef op_image_to_codes = {.name = "image_to_codes", .lowered = &kLowered};

}  // namespace quell
