// Builder calls of images.
#include "quell/graph/builder.h"
#include "quell/graph/image_ops.h"

namespace quell {

ValueId GraphBuilder::image(const ImageAttributes& image) {
  return node(op_image, {pixels()}, Attributes::of(image));
}

ValueId GraphBuilder::conv2d(const std::string& label, const std::string& module, ValueId x,
                             std::int64_t out, const ConvAttributes& conv, ParamOptions options) {
  const std::int64_t seen = conv.window.taps() * (columns(x) / conv.groups);
  options.packing = conv_packing(conv.window);
  return node_with(op_conv2d, label, module, {x}, {out, seen}, Attributes::of(conv),
                   std::move(options));
}

ValueId GraphBuilder::conv_transpose2d(const std::string& label, const std::string& module,
                                       ValueId x, std::int64_t out, const ConvAttributes& conv,
                                       ParamOptions options) {
  const std::int64_t seen = conv.window.taps() * columns(x);
  options.packing = conv_packing(conv.window, true);
  return node_with(op_conv_transpose2d, label, module, {x}, {out, seen}, Attributes::of(conv),
                   std::move(options));
}

ValueId GraphBuilder::batch_norm(const std::string& label, const std::string& module, ValueId x,
                                 double eps) {
  return node_with(op_batch_norm, label, module, {x}, {columns(x)}, Attributes::of(eps),
                   {.bias = true, .vectors = {"running_mean", "running_var"}});
}

}  // namespace quell
