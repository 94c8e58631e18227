// y = s_x s_w[j] (acc + c[j]) + b[j]. Codes are held as the kernels want them: activations u8 (signed codes + 128), weights s8
// (unsigned codes - 128); zero points move along, so the integers are the same.
#include <algorithm>
#include <limits>

#include "quell/base/error.h"
#include "quell/kernels/gemm_u8s8/gemm_u8s8.h"
#include "quell/kernels/quantize_u8/quantize_u8.h"
#include "quell/quant/quantize.h"
#include "quell/quant/quantized_linear.h"

namespace quell {
namespace {

constexpr std::int32_t kSignShift = 128;
constexpr std::int64_t kRowBlock = 64;

class IntegerLinear final : public LinearOp {
 public:
  IntegerLinear(const QTensor& weight, const TensorView& bias, const ActivationQuant& input, Isa isa, bool exact_simulation)
      : bias_(Tensor::copy_of(bias)), input_(input), exact_(exact_simulation), n_(weight.codes.rows()), k_(weight.codes.cols()) {
    check(weight);
    const std::int32_t weight_shift = weight.spec.symmetric ? 0 : kSignShift;
    codes_.resize(static_cast<std::size_t>(n_ * k_));
    const std::int16_t* in = weight.codes.as<std::int16_t>().data();
    for (std::size_t i = 0; i < codes_.size(); ++i) codes_[i] = static_cast<std::int8_t>(in[i] - weight_shift);
    const bool per_tensor = weight.spec.granularity == Granularity::kPerTensor;
    for (std::int64_t j = 0; j < n_; ++j) {
      const StepAndZero qp = weight.qparams.at(per_tensor ? 0 : j);
      weight_scale_.push_back(qp.scale);
      weight_zero_.push_back(qp.zero_point - weight_shift);
      std::int32_t sum = 0;
      for (std::int64_t k = 0; k < k_; ++k) sum += codes_[static_cast<std::size_t>(j * k_ + k)];
      row_sum_.push_back(sum);
    }
    asymmetric_weight_ = !weight.spec.symmetric;
    input_shift_ = input.spec.symmetric ? kSignShift : 0;
    quantize_ = kernels::choose_quantize_u8(isa);
    packed_ = kernels::pack_weights(codes_.data(), n_, k_);
    kernel_ = &kernels::choose_gemm_u8s8(isa, input.spec.max_code() + input_shift_, packed_.max_abs);
    if (!exact_) codes_ = {};
  }

  void forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const override {
    require(x.cols() == k_ && y.cols() == n_ && y.rows() == x.rows(), ErrorCode::kInvalidInput, "integer linear: shapes ",
            x.shape().to_string(), " -> ", y.shape().to_string(), " do not fit [", n_, ", ", k_, "]");
    ctx.pool.parallel_for(x.rows(), kRowBlock, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t m = end - begin, ldx = packed_.padded_k();
      std::vector<std::uint8_t> codes(static_cast<std::size_t>(m * ldx));
      std::vector<std::int32_t> acc(static_cast<std::size_t>(m * n_));
      std::vector<StepAndZero> steps(static_cast<std::size_t>(m));
      std::vector<std::int32_t> sums(static_cast<std::size_t>(m));
      for (std::int64_t i = 0; i < m; ++i) {
        const auto at = static_cast<std::size_t>(i);
        steps[at] = input_.spec.dynamic
                        ? calculate_qparams(range_of({x.row(begin + i), static_cast<std::size_t>(k_)}, "activation"), input_.spec)
                        : input_.qparams;
        const auto zero = static_cast<float>(steps[at].zero_point);
        sums[at] = quantize_(x.row(begin + i), k_,
                             {1.0F / steps[at].scale, zero, static_cast<float>(input_.spec.min_code()),
                              static_cast<float>(input_.spec.max_code()), static_cast<float>(input_shift_)},
                             codes.data() + i * ldx);
      }
      if (exact_)
        sum_products(codes.data(), ldx, m, acc.data());
      else
        kernel_->run(codes.data(), ldx, packed_, acc.data(), n_, m, 0, n_);
      for (std::int64_t i = 0; i < m; ++i)
        write_row(acc.data() + i * n_, steps[static_cast<std::size_t>(i)], sums[static_cast<std::size_t>(i)], y.row(begin + i));
    });
  }

  std::string describe() const override {
    if (exact_) return "simulation with exact integer sums";
    return str("u8*s8 ", kernel_->name, ", codes up to ", input_.spec.max_code() + input_shift_, " x ", packed_.max_abs);
  }

 private:
  void check(const QTensor& weight) const {
    require(weight.spec.granularity != Granularity::kPerGroup && input_.spec.granularity != Granularity::kPerGroup,
            ErrorCode::kUnsupported,
            "per-group quantization runs simulated only; use --engine simulated, or per-channel weights and per-tensor or "
            "per-token activations");
    require(!input_.spec.dynamic || input_.spec.granularity == Granularity::kPerToken, ErrorCode::kUnsupported,
            "dynamic activations per ", granularity_name(input_.spec.granularity), " have no integer kernel; use per token");
    // |acc| and its corrections must fit in int32: K * 255 * 255 each.
    require(k_ <= std::numeric_limits<std::int32_t>::max() / (255 * 255), ErrorCode::kUnsupported, "a linear of ", k_,
            " columns could overflow 32-bit sums");
  }

  void sum_products(const std::uint8_t* x, std::int64_t ldx, std::int64_t m, std::int32_t* acc) const {
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n_; ++j) {
        std::int64_t sum = 0;
        for (std::int64_t k = 0; k < k_; ++k) sum += std::int64_t{x[i * ldx + k]} * codes_[static_cast<std::size_t>(j * k_ + k)];
        acc[i * n_ + j] = static_cast<std::int32_t>(sum);
      }
  }

  void write_row(const std::int32_t* acc, const StepAndZero& x, std::int32_t x_sum, float* y) const {
    const std::int32_t zero = x.zero_point + input_shift_;
    const auto k = static_cast<std::int32_t>(k_);
    const float* b = bias_.numel() ? bias_.f32().data() : nullptr;
    for (std::size_t j = 0; j < weight_scale_.size(); ++j) {
      std::int32_t sum = acc[j] - zero * row_sum_[j];
      if (asymmetric_weight_) sum += weight_zero_[j] * (k * zero - x_sum);
      const float value = (x.scale * weight_scale_[j]) * static_cast<float>(sum);
      y[j] = b ? value + b[j] : value;
    }
  }

  Tensor bias_;
  ActivationQuant input_;
  bool exact_, asymmetric_weight_ = false;
  std::int64_t n_, k_;
  std::int32_t input_shift_ = 0;
  std::vector<std::int8_t> codes_;  ///< [N,K], kept for the exact simulation only
  std::vector<float> weight_scale_;
  std::vector<std::int32_t> weight_zero_, row_sum_;
  kernels::PackedWeights packed_;
  const kernels::GemmU8S8Kernel* kernel_ = nullptr;
  kernels::QuantizeU8 quantize_ = nullptr;
};

}  // namespace

std::unique_ptr<LinearOp> make_integer_linear(const QTensor& weight, const TensorView& bias, const ActivationQuant& input, Isa isa,
                                              bool exact_simulation) {
  return std::make_unique<IntegerLinear>(weight, bias, input, isa, exact_simulation);
}

}  // namespace quell
