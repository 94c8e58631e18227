// Ops of images, whose pixels are rows, and what each is told; an op is the file of its name in
// ops/.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "quell/graph/op.h"
#include "quell/ops/convolution.h"

namespace quell {

extern const OpDef op_image;  ///< pixels to rows, one a pixel: ImageAttributes

// With weights.
extern const OpDef op_conv2d;              ///< ConvAttributes
extern const OpDef op_conv_transpose2d;    ///< ConvAttributes
extern const OpDef op_batch_norm;          ///< by running statistics: eps, a double
extern const OpDef op_prelu;               ///< x below 0 times a weight, of each channel or of all
extern const OpDef op_position_attention;  ///< operands as PositionAttentionOperand says
extern const OpDef op_channel_attention;   ///< of channels to channels, over all pixels
extern const OpDef op_learned_queries;     ///< rows of a table as tokens of each image

// Without.
extern const OpDef op_pool;            ///< PoolAttributes
extern const OpDef op_global_mean;     ///< over the pixels: one row an image
extern const OpDef op_resize;          ///< ResizeAttributes
extern const OpDef op_concatenate;     ///< channels of several values
extern const OpDef op_pad;             ///< PadAttributes
extern const OpDef op_pixel_tokens;    ///< pixels as tokens
extern const OpDef op_sine_positions;  ///< of pixels: their columns, std::int64_t
extern const OpDef op_clamp;           ///< what passes make of a ReLU6: ClampAttributes
extern const OpDef op_sequence_mean;   ///< of the tokens of a sequence, in the place of each

struct ImageAttributes {
  std::int64_t channels = 0;
  ImageSize size = {};
};

/// The weight is [out, (taps, in / groups)]; ConvPacking says how checkpoints store it.
struct ConvAttributes {
  Window window = {};
  std::int64_t groups = 1;
  /// What taps outside of the image see, by channel of the operand; empty: 0.
  std::vector<double> padding_value = {};
  ImageSize more = {};  ///< transposed: rows and columns behind the last window
};
/// Which pixels the taps of a convolution or of a transposed one see, its operand having these
/// rows.
ConvGeometry conv_geometry(const Node& node, const RowSpace& rows);
/// The same of a node in its graph; null: it is none.
std::shared_ptr<const ConvGeometry> conv_geometry(const Graph& graph, NodeId n);

/// Which channel of its operand an element of a product's weight multiplies.
struct ColumnChannels {
  std::int64_t group_in = 0;   ///< channels that a row sees
  std::int64_t group_out = 0;  ///< rows that see the same ones; all where there is one group
  std::int64_t of(std::int64_t row, std::int64_t column) const {
    return row / group_out * group_in + column % group_in;
  }
};
/// By the weight as it is: splitting channels gives it more rows and columns than the graph knows.
ColumnChannels column_channels(const Node& product, const TensorView& weight);
/// Multiplies what reads channel c by scale[c].
void scale_columns(const ColumnChannels& channels, std::span<const float> scale, TensorSpan weight);

/// How checkpoints store the weight of a convolution, or of a transposed one.
Packing conv_packing(const Window& window, bool transposed = false);

/// Between 0 and a bound of each channel.
struct ClampAttributes {
  std::vector<float> high;
};
/// What stands behind a change of its operand by x / scale, channel by channel: the bounds of a
/// clamp, or of a ReLU6, which becomes one. Other nodes stay.
void scale_bounds(Graph& graph, NodeId n, std::span<const float> scale);

enum class PoolKind { kMax, kAverage };

struct PoolAttributes {
  PoolKind kind = PoolKind::kMax;
  Window window = {};
  bool ceil = false;  ///< one window more where the last one sticks out
  /// kAverage: whether padding counts as zeros of the window, or is left out.
  bool counts_padding = true;
  std::int64_t divisor = 0;  ///< kAverage: of the sum; 0: the number of pixels that count
};

/// What the sum of window (y, x) of a pool of means is divided by, of which `inside` pixels are of
/// the image.
std::int64_t pool_divisor(const PoolAttributes& pool, ImageSize image, std::int64_t y,
                          std::int64_t x, std::int64_t inside);

enum class ResizeKind { kNearest, kBilinear };

struct ResizeAttributes {
  ResizeKind kind = ResizeKind::kNearest;
  ImageSize size = {};
  bool align_corners = false;  ///< kBilinear: corner pixels keep their place
};

/// Around the image, and in front of and behind the channels.
struct PadAttributes {
  ImagePadding padding = {};
  std::int64_t channels_before = 0;
  std::int64_t channels_behind = 0;
  double value = 0;
};

enum PositionAttentionOperand : std::size_t {
  kAttendedImage,
  kPositionQuery,
  kPositionKey,
  kPositionValue
};

/// Of rows that are pixels. Throws Error(kUnsupported) naming `who` where they are something else.
ImageSize image_size(const RowSpace& rows, std::string_view who);
/// The type of the first operand, with pixels of images of that size as rows. Throws
/// Error(kUnsupported) where there are none.
ValueType with_image(const Graph& graph, const Node& node, ImageSize size);
/// Whether the graph is a network of images without attention of tokens: convolutions, transposed
/// ones, linears.
bool is_convolutional(const Graph& graph);
/// Images in the batch, of an operand whose rows are pixels.
std::int64_t num_images(OpCall& call, std::size_t operand);

}  // namespace quell
