#include "quell/compress/adaround.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "quell/base/error.h"
#include "quell/ops/linear.h"
#include "quell/quant/adam.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

// The stretched sigmoid of the paper: 0 and 1 are reached, not only approached.
constexpr float kLow = -0.1F, kHigh = 1.1F;

/// Some rows of a weight: up[r, k] in [0, 1] is how much of a step is added to the code below w[r,
/// k].
class Rows {
 public:
  Rows(const TensorView& w, const QTensor& q, std::int64_t begin, std::int64_t end,
       const AdaRoundOptions& options)
      : columns_(w.cols()), options_(options) {
    const std::int64_t count = end - begin, groups = q.qparams.scale.numel();
    const std::int64_t group_size =
        q.spec.granularity == Granularity::kPerGroup ? q.spec.group_size : columns_;
    const auto least = static_cast<float>(q.spec.min_code()),
               most = static_cast<float>(q.spec.max_code());
    for (Tensor* t : {&error, &step_, &value_, &code_, &below_, &free_})
      *t = Tensor::f32({count, columns_});
    for (std::int64_t r = 0; r < count; ++r) {
      adam_.emplace_back(static_cast<std::size_t>(columns_));
      for (std::int64_t k = 0; k < columns_; ++k) {
        const StepAndZero at =
            q.qparams.at(groups == 1 ? 0 : ((begin + r) * columns_ + k) / group_size);
        const float x = w.row(begin + r)[k] / at.scale + static_cast<float>(at.zero_point),
                    down = std::floor(x);
        step_.row(r)[k] = at.scale;
        code_.row(r)[k] = std::clamp(down, least, most);
        below_.row(r)[k] = code_.row(r)[k] - x;
        free_.row(r)[k] =
            down >= least && down < most ? 1.0F : 0.0F;  // elsewhere both choices are the same code
        const float up = std::clamp((x - down - kLow) / (kHigh - kLow), 1e-4F, 1 - 1e-4F);
        value_.row(r)[k] = -std::log(1 / up - 1);
      }
    }
  }

  /// w^q - w, as the choices stand.
  void evaluate(ExecContext& ctx) {
    for_rows(ctx, [&](std::int64_t r) {
      for (std::int64_t k = 0; k < columns_; ++k)
        error.row(r)[k] = (below_.row(r)[k] + free_.row(r)[k] * up(r, k)) * step_.row(r)[k];
    });
  }
  /// One step. `slope`: error * gram - pull [rows, C]; `diagonal`: of gram; `sharpness`: exponent
  /// of the term that asks for 0 or 1, which is left out at 0. The error counts in what one
  /// weight's step adds to it, on average.
  void learn(const Tensor& slope, std::span<const double> diagonal, double sharpness,
             ExecContext& ctx) {
    for_rows(ctx, [&](std::int64_t r) {
      std::vector<double> gradient(static_cast<std::size_t>(columns_));
      double unit = 0;
      for (std::int64_t k = 0; k < columns_; ++k)
        unit += std::pow(static_cast<double>(step_.row(r)[k]), 2) *
                diagonal[static_cast<std::size_t>(k)] / static_cast<double>(columns_);
      for (std::int64_t k = 0; k < columns_; ++k) {
        const float s = sigmoid(value_.row(r)[k]), h = s * (kHigh - kLow) + kLow;
        if (h <= 0 || h >= 1 || free_.row(r)[k] == 0) continue;
        float of_up = static_cast<float>(2 * static_cast<double>(slope.row(r)[k]) *
                                         static_cast<double>(step_.row(r)[k]) / unit);
        if (sharpness > 0) {
          const float centred = 2 * h - 1, power = static_cast<float>(sharpness);
          of_up -= static_cast<float>(options_.regularization) * 2 * power *
                   std::copysign(std::pow(std::fabs(centred), power - 1), centred);
        }
        gradient[static_cast<std::size_t>(k)] =
            static_cast<double>(of_up * (kHigh - kLow) * s * (1 - s));
      }
      adam_[static_cast<std::size_t>(r)].step(
          gradient, {value_.row(r), static_cast<std::size_t>(columns_)}, options_.learning_rate);
    });
  }
  /// Every choice becomes 0 or 1.
  void decide() {
    for (std::int64_t r = 0; r < value_.rows(); ++r)
      for (std::int64_t k = 0; k < columns_; ++k)
        value_.row(r)[k] = up(r, k) >= 0.5F ? kDecided : -kDecided;
  }

  /// Of a row, once it is decided.
  void write_codes(std::int64_t r, std::span<std::int16_t> codes) const {
    for (std::int64_t k = 0; k < columns_; ++k)
      codes[static_cast<std::size_t>(k)] =
          static_cast<std::int16_t>(code_.row(r)[k] + (up(r, k) > 0.5F ? free_.row(r)[k] : 0.0F));
  }

  Tensor error;  ///< [rows, C]

 private:
  static constexpr float kDecided = 20;
  static float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }
  float up(std::int64_t r, std::int64_t k) const {
    return std::clamp(sigmoid(value_.row(r)[k]) * (kHigh - kLow) + kLow, 0.0F, 1.0F);
  }
  template <typename Body>
  void for_rows(ExecContext& ctx, const Body& body) {
    ctx.pool.parallel_for(value_.rows(), 8, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) body(r);
    });
  }

  std::int64_t columns_;
  const AdaRoundOptions& options_;
  Tensor step_, value_, code_, below_,
      free_;  ///< code_: the lower one; below_: what it lacks, in steps
  std::vector<Adam> adam_;
};

/// e gram e^T - 2 e pull^T of a row, given e, e gram - pull and pull.
double loss_of(const float* error, const float* slope, const float* pull, std::int64_t columns) {
  double sum = 0;
  for (std::int64_t k = 0; k < columns; ++k) {
    const double of_slope = static_cast<double>(slope[k]);
    sum +=
        static_cast<double>(error[k]) * (pull ? of_slope - static_cast<double>(pull[k]) : of_slope);
  }
  return sum;
}

}  // namespace

QTensor adaround(const TensorView& w, QTensor nearest, const Tensor& gram, const TensorView& pull,
                 const AdaRoundOptions& options, ExecContext& ctx) {
  constexpr std::int64_t kRows = 512;  // at once, which bounds the memory
  constexpr double kWarmUp = 0.2, kSharpest = 20, kFlattest = 2;
  const std::int64_t columns = w.cols();
  std::vector<double> diagonal;
  double largest = 0;
  for (std::int64_t k = 0; k < columns; ++k) {
    diagonal.push_back(static_cast<double>(gram.row(k)[k]));
    largest = std::max(largest, diagonal.back());
  }
  require(largest > 0 && std::isfinite(largest), ErrorCode::kNumeric,
          "adaround: all inputs are 0, or not finite");
  const Tensor before = dequantize(nearest);
  for (std::int64_t begin = 0; begin < w.rows(); begin += kRows) {
    const std::int64_t end = std::min(w.rows(), begin + kRows);
    Rows rows(w, nearest, begin, end, options);
    const bool pulled = pull.numel() > 0;
    const auto pull_of = [&](std::int64_t r) { return pulled ? pull.row(r) : nullptr; };
    Tensor slope = Tensor::f32({end - begin, columns});  // half of it
    const auto evaluate_slope = [&](const Tensor& error) {
      matmul_nt(error, gram, TensorView(), slope.span(), ctx);
      if (!pulled) return;
      for (std::int64_t r = begin; r < end; ++r)
        for (std::int64_t k = 0; k < columns; ++k) slope.row(r - begin)[k] -= pull.row(r)[k];
    };
    const auto loss = [&](const Tensor& error, std::int64_t r) {
      return loss_of(error.row(r - begin), slope.row(r - begin), pull_of(r), columns);
    };

    for (std::int64_t i = 0; i < options.iterations; ++i) {
      rows.evaluate(ctx);
      evaluate_slope(rows.error);
      const double done = static_cast<double>(i) / static_cast<double>(options.iterations),
                   annealed = (done - kWarmUp) / (1 - kWarmUp);
      const double sharpness =
          kFlattest + (kSharpest - kFlattest) * (1 + std::cos(std::numbers::pi * annealed)) / 2;
      rows.learn(slope, diagonal, annealed < 0 ? 0 : sharpness, ctx);
    }
    rows.decide();
    rows.evaluate(ctx);
    evaluate_slope(rows.error);
    std::vector<double> learned;
    for (std::int64_t r = begin; r < end; ++r) learned.push_back(loss(rows.error, r));

    Tensor error = Tensor::f32({end - begin, columns});
    for (std::int64_t r = begin; r < end; ++r)
      for (std::int64_t k = 0; k < columns; ++k)
        error.row(r - begin)[k] = before.row(r)[k] - w.row(r)[k];
    evaluate_slope(error);
    for (std::int64_t r = begin; r < end; ++r)
      if (learned[static_cast<std::size_t>(r - begin)] < loss(error, r))
        rows.write_codes(r - begin, {nearest.codes.as<std::int16_t>().data() + r * columns,
                                     static_cast<std::size_t>(columns)});
  }
  return nearest;
}

}  // namespace quell
