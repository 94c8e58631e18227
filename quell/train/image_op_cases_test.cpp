// Small graphs of ops of images.
#include "quell/graph/image_ops.h"
#include "quell/train/op_cases.h"

namespace quell::train {
namespace {

/// Strides, dilation, and another padding on each side.
Window odd_window() {
  Window w;
  w.kernel_height = 3;
  w.kernel_width = 2;
  w.stride_height = 2;
  w.dilation_width = 2;
  w.padding = {.top = 1, .bottom = 1, .left = 1, .right = 0};
  return w;
}

Window square(std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  Window w;
  w.kernel_height = w.kernel_width = kernel;
  w.stride_height = w.stride_width = stride;
  w.padding = {padding, padding, padding, padding};
  return w;
}

ValueId pooled(ModelBuilder& g, ValueId x, const PoolAttributes& pool) {
  return g.node(op_pool, {x}, Attributes::of(pool));
}

ValueId resized(ModelBuilder& g, ValueId x, const ResizeAttributes& resize) {
  return g.node(op_resize, {x}, Attributes::of(resize));
}

}  // namespace

std::vector<OpCase> image_op_cases() {
  std::vector<OpCase> cases = {
      {"conv2d",
       [](ModelBuilder& g, ValueId x) {
         return g.conv2d("c", "c", x, 3, {.window = odd_window()}, {.bias = true});
       }},
      {"conv2d_groups",
       [](ModelBuilder& g, ValueId x) {
         return g.conv2d("c", "c", x, 6, {.window = square(3, 1, 1), .groups = 2});
       }},
      {"conv2d_padding_values",
       [](ModelBuilder& g, ValueId x) {
         return g.conv2d("c", "c", x, 2,
                         {.window = odd_window(), .padding_value = {0.5, -1, 2, 0.25}});
       }},
      {"conv_transpose2d",
       [](ModelBuilder& g, ValueId x) {
         return g.conv_transpose2d("c", "c", x, 3, {.window = square(3, 2, 1), .more = {1, 0}},
                                   {.bias = true});
       }},
      {"batch_norm", [](ModelBuilder& g, ValueId x) { return g.batch_norm("n", "n", x, 1e-3); }},
      {"prelu", [](ModelBuilder& g,
                   ValueId x) { return g.node_with(op_prelu, "p", "p", {x}, {4}, {}, {}); }},
      {"pool_max",
       [](ModelBuilder& g, ValueId x) {
         return pooled(g, x, {.window = square(3, 2, 1), .ceil = true});
       }},
      {"pool_mean",
       [](ModelBuilder& g, ValueId x) {
         return pooled(g, x, {.kind = PoolKind::kAverage, .window = square(3, 2, 1), .ceil = true});
       }},
      {"pool_mean_without_padding",
       [](ModelBuilder& g, ValueId x) {
         return pooled(
             g, x,
             {.kind = PoolKind::kAverage, .window = square(2, 1, 1), .counts_padding = false});
       }},
      {"global_mean", [](ModelBuilder& g, ValueId x) { return g.node(op_global_mean, {x}); }},
      {"resize_nearest",
       [](ModelBuilder& g, ValueId x) {
         return resized(g, x, {.size = {7, 3}});
       }},
      {"resize_bilinear",
       [](ModelBuilder& g, ValueId x) {
         return resized(g, x, {.kind = ResizeKind::kBilinear, .size = {7, 9}});
       }},
      {"resize_corners",
       [](ModelBuilder& g, ValueId x) {
         return resized(g, x,
                        {.kind = ResizeKind::kBilinear, .size = {8, 3}, .align_corners = true});
       }},
      {"concatenate",
       [](ModelBuilder& g, ValueId x) {
         return g.node(op_concatenate, {x, g.activation(ActivationKind::kTanh, x)});
       }},
      {"pad",
       [](ModelBuilder& g, ValueId x) {
         return g.node(op_pad, {x},
                       Attributes::of(PadAttributes{.padding = {1, 2, 0, 1},
                                                    .channels_before = 1,
                                                    .channels_behind = 2,
                                                    .value = 0.5}));
       }},
      {"clamp",
       [](ModelBuilder& g, ValueId x) {
         return g.node(op_clamp, {x}, Attributes::of(ClampAttributes{{0.1F, 0.2F, 0.3F, 9.0F}}));
       }},
      {"sine_positions",
       [](ModelBuilder& g, ValueId x) {
         const ValueId waves = g.node(op_sine_positions, {x}, Attributes::of(std::int64_t{4}));
         return g.multiply(g.node(op_pixel_tokens, {x}), g.node(op_pixel_tokens, {waves}));
       }},
      {"position_attention",
       [](ModelBuilder& g, ValueId x) {
         const ValueId q = g.conv2d("q", "q", x, 2, {});
         const ValueId k = g.conv2d("k", "k", x, 2, {});
         return g.node_with(op_position_attention, "a", "a", {x, q, k, x}, {1}, {}, {});
       }},
      {"channel_attention",
       [](ModelBuilder& g, ValueId x) {
         return g.node_with(op_channel_attention, "a", "a", {x}, {1}, {}, {});
       }},
  };
  for (OpCase& c : cases) c.reads = Reads::kImages;
  return cases;
}

}  // namespace quell::train
