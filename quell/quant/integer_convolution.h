// Convolutions on codes: static steps of the image, symmetric weights, exact sums.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "quell/kernels/conv_s8/conv_s8.h"
#include "quell/quant/quantized_linear.h"

namespace quell {

/// y[p, o] = s_x s_w[o] (acc - z_x * sum of w[o]) + b[o], acc being the exact sum of code products
/// over taps and channels; what lies outside of the image is the code of its value (of 0: the zero
/// point). The epilogue is that of IntegerLinear. Immutable.
class IntegerConvolution final : public IntegerProduct {
 public:
  /// weight: [O, (taps, I / groups)]. Throws Error(kUnsupported) with the reason where integers
  /// cannot hold the scheme: other inputs than static ones per tensor, asymmetric weights or
  /// weights in groups.
  IntegerConvolution(const QTensor& weight, const TensorView& bias, const ActivationQuant& input,
                     std::shared_ptr<const ConvGeometry> geometry,
                     const IntegerLinearOptions& options);

  void forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const override;
  /// x: rows of images, at least the channels rounded up to four apart.
  void forward_rows(const QuantizedRows& x, const LinearOutput& output,
                    ExecContext& ctx) const override;
  std::string describe() const override;

  std::int64_t out_rows(std::int64_t rows) const override { return geometry_->out_rows(rows); }
  const ActivationQuant& input() const override { return input_; }
  bool needs_sums() const override { return false; }
  std::int64_t columns() const override { return outputs_; }
  std::size_t packed_bytes() const override;

 private:
  /// How the sums are computed.
  enum class Kind {
    kPointwise,  ///< one tap, every pixel by itself
    kBordered,   ///< few channels: pixels side by side are one tap, in a copy that has the border
    kDense,      ///< pixels through pointers
    kDepthwise,  ///< one filter a channel
    kGrouped     ///< dense, one group after the other
  };
  struct Job;

  void pack(const std::vector<std::int8_t>& codes, std::int64_t group_in);
  const std::vector<std::int32_t>& row_sums(std::int64_t group) const;
  void run_pointwise(const Job& job) const;
  void run_bordered(const Job& job) const;
  /// The images of a call with their border, [images * height, width, channels rounded up to four].
  Tensor with_border(const Job& job, std::int64_t height, std::int64_t width) const;
  void run_dense(const Job& job) const;
  /// Of the images, for each row of outputs.
  std::int64_t image_bytes(const Job& job) const;
  /// What each tap of output rows [first, first + rows) sees, tap by tap.
  void point_at_taps(const QuantizedRows& x, std::int64_t first, std::int64_t rows,
                     std::vector<const std::uint8_t*>& to) const;
  void run_tiles(const Job& job) const;
  void run_depthwise(const Job& job) const;
  /// What taps see in each column of the padded image, for one row of outputs: [columns, kernel
  /// height].
  void point_at_columns(const QuantizedRows& x, std::int64_t row, std::int64_t columns,
                        const std::uint8_t** to) const;

  ActivationQuant input_;
  std::shared_ptr<const ConvGeometry> geometry_;
  bool exact_ = false;
  Kind kind_ = Kind::kDense;
  std::int64_t channels_ = 0;  ///< of the image
  std::int64_t outputs_ = 0;
  const kernels::ConvS8Kernel* kernel_ = nullptr;
  std::vector<kernels::PackedConv> groups_;  ///< of all kinds but depthwise
  kernels::PackedDepthwise depthwise_;
  /// With tile instructions, which multiply so fast that a gather in front pays: what they read.
  std::optional<kernels::PackedWeights> tiles_;
  std::vector<std::uint8_t> padding_;  ///< codes of a pixel outside of the image
  // [groups, outputs of a group rounded up to a panel].
  std::vector<float> scale_;
  std::vector<float> bias_;
  std::vector<std::int32_t> offset_;
};

}  // namespace quell
