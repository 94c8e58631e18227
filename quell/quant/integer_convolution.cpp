#include "quell/quant/integer_convolution.h"

#include <algorithm>
#include <limits>

#include "quell/base/error.h"

namespace quell {
namespace {

using kernels::kPanel;
using kernels::round_up;

/// So few that a pixel is one unit of the kernels, or hardly more: then several pixels side by side
/// are worth more than a copy of the image costs.
constexpr std::int64_t kFewChannels = 8;

void check(const QTensor& weight, const ActivationQuant& input, const ConvGeometry& geometry) {
  const bool in_groups = weight.spec.granularity == Granularity::kPerGroup;
  require(weight.spec.symmetric && !in_groups, ErrorCode::kUnsupported,
          "a convolution's weights run in integers when they are symmetric, per channel or per "
          "tensor; run others simulated (--engine simulated)");
  require(is_static_per_tensor(input) && !input.groups, ErrorCode::kUnsupported,
          "a convolution's inputs run in integers with one static step; run others simulated "
          "(--engine simulated)");

  const std::int64_t taps = geometry.taps.kernel_height * geometry.taps.kernel_width;
  const std::int64_t sums = weight.codes.cols();
  require(sums % taps == 0 && sums <= std::numeric_limits<std::int32_t>::max() / (255 * 255),
          ErrorCode::kUnsupported, "a convolution of ", sums,
          " products could overflow 32-bit sums");
}

/// Codes of what lies outside of the image, with bytes behind it that kernels may read.
std::vector<std::uint8_t> padding_codes(const ConvGeometry& geometry, std::int64_t channels,
                                        const ActivationQuant& input) {
  const kernels::CodeArgs args = code_args(input.spec, input.qparams);
  const auto size = static_cast<std::size_t>(round_up(channels, kernels::kPackedK));
  std::vector<std::uint8_t> codes(size, static_cast<std::uint8_t>(args.zero));
  if (geometry.padding.empty()) return codes;

  ExecContext ctx(1);
  const TensorView values(geometry.padding.data(), DType::kF32, {1, channels});
  const QuantizedRows row = quantize_rows(values, input, false, ctx);
  std::copy_n(row.row(0), channels, codes.data());
  return codes;
}

}  // namespace

IntegerConvolution::IntegerConvolution(const QTensor& weight, const TensorView& bias,
                                       const ActivationQuant& input,
                                       std::shared_ptr<const ConvGeometry> geometry,
                                       const IntegerLinearOptions& options)
    : input_(input), geometry_(std::move(geometry)), exact_(options.exact_simulation) {
  check(weight, input, *geometry_);
  const std::int64_t taps = geometry_->taps.kernel_height * geometry_->taps.kernel_width;
  const std::int64_t group_in = weight.codes.cols() / taps;
  outputs_ = weight.codes.rows();
  channels_ = group_in * geometry_->groups;
  const bool is_depthwise =
      group_in == 1 && outputs_ == geometry_->groups && !geometry_->transposed;
  if (is_depthwise && channels_ > 1)
    kind_ = Kind::kDepthwise;
  else if (geometry_->groups > 1)
    kind_ = Kind::kGrouped;
  else if (geometry_->taps.reads_in_place())
    kind_ = Kind::kPointwise;
  else if (channels_ <= kFewChannels && geometry_->taps.kernel_width > 1 &&
           geometry_->window.dilation_width == 1 && !geometry_->transposed)
    kind_ = Kind::kBordered;

  int max_abs = 0;
  std::vector<std::int8_t> codes;
  for (const std::int16_t code : weight.codes.as<std::int16_t>()) {
    codes.push_back(static_cast<std::int8_t>(code));
    max_abs = std::max(max_abs, std::abs(static_cast<int>(code)));
  }
  const int max_x = input.spec.max_code() + code_shift(input.spec);
  kernel_ = &kernels::choose_conv_s8(exact_ ? Isa::kPortable : options.isa, max_x, max_abs);
  padding_ = padding_codes(*geometry_, channels_, input);
  // Products of fewer channels, or of fewer outputs than a tile has, would be mostly padding.
  constexpr std::int64_t kLeastDepth = 64;
  constexpr std::int64_t kLeastOutputs = 32;
  const bool is_dense = kind_ == Kind::kPointwise || kind_ == Kind::kDense;
  const bool has_tiles = options.isa >= Isa::kAmx && !exact_;
  if (has_tiles && is_dense && weight.codes.cols() >= kLeastDepth && outputs_ >= kLeastOutputs)
    tiles_ = kernels::pack_weights(codes.data(), outputs_, weight.codes.cols(),
                                   kernels::WeightLayout::kQuads);
  else
    pack(codes, group_in);

  const std::int64_t groups = kind_ == Kind::kGrouped ? geometry_->groups : 1;
  const std::int64_t group_out = outputs_ / groups;
  const std::int64_t padded = round_up(group_out, kPanel);
  const auto size = static_cast<std::size_t>(groups * padded);
  scale_.assign(size, 0.0F);
  bias_.assign(size, 0.0F);
  offset_.assign(size, 0);
  const std::int32_t zero = input.qparams.zero_point + code_shift(input.spec);
  const bool per_tensor = weight.spec.granularity == Granularity::kPerTensor;
  for (std::int64_t o = 0; o < outputs_; ++o) {
    const std::int64_t group = o / group_out;
    const auto in_group = static_cast<std::size_t>(o % group_out);
    const auto to = static_cast<std::size_t>(group * padded) + in_group;
    scale_[to] = input.qparams.scale * weight.qparams.at(per_tensor ? 0 : o).scale;
    if (bias.numel() > 0) bias_[to] = bias.f32()[static_cast<std::size_t>(o)];
    offset_[to] = -zero * row_sums(group)[in_group];
  }
}

const std::vector<std::int32_t>& IntegerConvolution::row_sums(std::int64_t group) const {
  if (tiles_) return tiles_->row_sum;
  if (kind_ == Kind::kDepthwise) return depthwise_.row_sum;
  return groups_[static_cast<std::size_t>(group)].row_sum;
}

void IntegerConvolution::pack(const std::vector<std::int8_t>& codes, std::int64_t group_in) {
  const TapTable& table = geometry_->taps;
  const std::int64_t taps = table.kernel_height * table.kernel_width;
  if (kind_ == Kind::kDepthwise) {
    depthwise_ = kernels::pack_depthwise(codes.data(), channels_, table.kernel_height,
                                         table.kernel_width, kernel_->vector_bytes);
    return;
  }
  if (kind_ == Kind::kBordered) {
    // A row of the filter is one tap, its pixels as far apart as in the image.
    const std::int64_t pixel = round_up(channels_, 4);
    const std::int64_t width = table.kernel_width * pixel;
    std::vector<std::int8_t> spread(
        static_cast<std::size_t>(outputs_ * table.kernel_height * width));
    for (std::int64_t i = 0; i < outputs_ * taps; ++i)
      std::copy_n(codes.begin() + i * channels_, channels_, spread.begin() + i * pixel);
    groups_.push_back(kernels::pack_conv(spread.data(), outputs_, table.kernel_height, width));
    return;
  }
  const std::int64_t group_out = outputs_ / geometry_->groups;
  for (std::int64_t g = 0; g < geometry_->groups; ++g)
    groups_.push_back(kernels::pack_conv(codes.data() + g * group_out * taps * group_in, group_out,
                                         taps, group_in));
}

std::size_t IntegerConvolution::packed_bytes() const {
  std::size_t bytes = depthwise_.data.size() + (tiles_ ? tiles_->data.size() : 0);
  for (const kernels::PackedConv& group : groups_) bytes += group.data.size();
  return bytes;
}

std::string IntegerConvolution::describe() const {
  if (exact_) return "simulation with exact integer sums";
  constexpr const char* kKinds[] = {"1x1", "rows of pixels", "convolution", "depthwise",
                                    "convolution in groups"};
  const std::string_view kernel = tiles_ ? "amx" : kernel_->name;
  return str("u8*s8 ", kKinds[static_cast<std::size_t>(kind_)], ", ", kernel, ", codes up to ",
             input_.spec.max_code() + code_shift(input_.spec), ", ", packed_bytes(), " bytes");
}

std::unique_ptr<IntegerProduct> make_integer_product(const QTensor& weight, const TensorView& bias,
                                                     const ActivationQuant& input,
                                                     std::shared_ptr<const ConvGeometry> geometry,
                                                     const IntegerLinearOptions& options) {
  if (geometry)
    return std::make_unique<IntegerConvolution>(weight, bias, input, std::move(geometry), options);
  return std::make_unique<IntegerLinear>(weight, bias, input, options);
}

}  // namespace quell
