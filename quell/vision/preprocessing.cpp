#include "quell/vision/preprocessing.h"

#include <algorithm>

#include "quell/base/error.h"

namespace quell {
namespace {

constexpr std::size_t kByteValues = 256;

std::string words(const ImageSize& size) { return str(size.width, " x ", size.height); }

/// The longer side is rounded down, as in transformers.
ImageSize target_size(const ResizeStep& step, const Image& image) {
  if (step.shortest_edge == 0) return step.size;

  const std::int64_t shorter = std::min(image.height, image.width);
  const std::int64_t longer = std::max(image.height, image.width);
  const double exact = static_cast<double>(step.shortest_edge * longer);
  const auto grown = static_cast<std::int64_t>(exact / static_cast<double>(shorter));
  const bool upright = image.width <= image.height;
  return upright ? ImageSize{grown, step.shortest_edge} : ImageSize{step.shortest_edge, grown};
}

Image resize_by(const ResizeStep& step, const Image& image, const std::string& name) {
  const ImageSize size = target_size(step, image);
  const std::int64_t limit = ImageLimits().max_pixels;
  require(size.height <= limit / size.width, ErrorCode::kInvalidInput, name, ": ",
          words({image.height, image.width}), " pixels become ", words(size),
          " when resized, more than the ", limit, " that are read");
  return resize(image, size.height, size.width, step.method);
}

/// Where the crop begins in the image; negative where it begins in zeros.
std::int64_t crop_begin(std::int64_t in, std::int64_t out, CropStep::OddRow odd_row) {
  if (in >= out) return (in - out) / 2;

  const std::int64_t zeros = out - in;
  return odd_row == CropStep::OddRow::kInFront ? -((zeros + 1) / 2) : -(zeros / 2);
}

Image crop_by(const CropStep& step, const Image& image) {
  const std::int64_t top = crop_begin(image.height, step.size.height, step.odd_row);
  const std::int64_t left = crop_begin(image.width, step.size.width, step.odd_row);
  const std::int64_t first = std::max(left, std::int64_t{0});
  const std::int64_t end = std::min(left + step.size.width, image.width);

  Image out(step.size.height, step.size.width, image.channels);
  for (std::int64_t y = 0; y < out.height; ++y) {
    const std::int64_t from = top + y;
    if (from < 0 || from >= image.height) continue;
    const std::uint8_t* row = image.row(from);
    std::copy(row + first * image.channels, row + end * image.channels,
              out.row(y) + (first - left) * image.channels);
  }
  return out;
}

Image with_channels(const Image& image, ChannelOrder order, const std::string& name) {
  const bool grey = image.channels == 1;
  if (order == ChannelOrder::kGrey) {
    require(grey, ErrorCode::kInvalidInput, name, ": an image of ", image.channels,
            " channels, and the model reads 1");
    return image;
  }
  if (!grey && order == ChannelOrder::kRgb) return image;

  Image out(image.height, image.width, 3);
  const std::int64_t step = grey ? 0 : 1;
  for (std::int64_t i = 0; i < image.height * image.width; ++i) {
    const std::uint8_t* from = image.pixels.data() + i * image.channels;
    std::uint8_t* to = out.pixels.data() + i * 3;
    for (std::int64_t c = 0; c < 3; ++c) {
      const std::int64_t source = order == ChannelOrder::kBgr ? 2 - c : c;
      to[c] = from[source * step];
    }
  }
  return out;
}

float normalized(std::uint8_t byte, const Normalization& n, std::size_t channel) {
  const auto u = static_cast<float>(byte);
  const bool has_mean = !n.mean.empty();

  float y = 0;
  if (n.arithmetic == Arithmetic::kFused && has_mean && n.offset == 0) {
    const auto inverse = static_cast<float>(1.0 / n.factor);
    const float mean = static_cast<float>(n.mean[channel]) * inverse;
    const float deviation = static_cast<float>(n.std[channel]) * inverse;
    y = (u - mean) / deviation;
  } else {
    y = n.arithmetic == Arithmetic::kFused
            ? u * static_cast<float>(n.factor)
            : static_cast<float>(static_cast<double>(byte) * n.factor);
    y += static_cast<float>(n.offset);
    if (has_mean)
      y = (y - static_cast<float>(n.mean[channel])) / static_cast<float>(n.std[channel]);
  }

  if (!n.second_std.empty()) y /= static_cast<float>(n.second_std[channel]);
  return y;
}

/// What each byte becomes, channel by channel.
std::vector<float> value_table(const Normalization& normalization, std::size_t channels) {
  std::vector<float> table;
  for (std::size_t c = 0; c < channels; ++c)
    for (std::size_t byte = 0; byte < kByteValues; ++byte)
      table.push_back(normalized(static_cast<std::uint8_t>(byte), normalization, c));
  return table;
}

}  // namespace

Image arrange(const Image& image, const Preprocessing& steps, const std::string& name) {
  Image out = with_channels(image, steps.channels, name);
  if (steps.resize) out = resize_by(*steps.resize, out, name);
  if (steps.crop) out = crop_by(*steps.crop, out);

  const ImageSize size = {out.height, out.width};
  require(!steps.result || size == *steps.result, ErrorCode::kInvalidInput, name, ": ", words(size),
          " pixels, and the model reads ", words(steps.result.value_or(size)));
  return out;
}

PixelValues preprocess(const Image& image, const Preprocessing& steps, const std::string& name) {
  const Image bytes = arrange(image, steps, name);
  const auto channels = static_cast<std::size_t>(bytes.channels);
  const std::vector<float> table = value_table(steps.normalization, channels);

  PixelValues out;
  out.size = {bytes.height, bytes.width};
  out.values = Tensor::uninitialized(DType::kF32, {bytes.height * bytes.width, bytes.channels});
  const std::span<float> values = out.values.f32();
  std::size_t i = 0;
  while (i < values.size())
    for (std::size_t c = 0; c < channels; ++c, ++i)
      values[i] = table[c * kByteValues + bytes.pixels[i]];
  return out;
}

}  // namespace quell
