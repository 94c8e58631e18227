#include "quell/quant/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "quell/base/error.h"
#include "quell/quant/rounding.h"

namespace quell {
namespace {

std::int64_t group_elements(std::int64_t numel, std::int64_t cols, const QuantSpec& spec) {
  switch (spec.granularity) {
    case Granularity::kPerTensor: return numel;
    case Granularity::kPerGroup: return spec.group_size;
    case Granularity::kPerChannel:
    case Granularity::kPerToken: return cols;
  }
  return numel;
}

}  // namespace

Range minmax_range(std::span<const float> values) {
  Range r{values[0], values[0]};
  for (const float v : values) {
    r.min = std::min(r.min, v);
    r.max = std::max(r.max, v);
  }
  return r;
}

Range three_sigma_range(std::span<const float> values) {
  const auto n = static_cast<double>(values.size());
  double mean = 0, squares = 0;
  for (const float v : values) mean += static_cast<double>(v) / n;
  for (const float v : values)
    squares += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean);
  const double reach = 3 * std::sqrt(squares / std::max(n - 1, 1.0));
  return {static_cast<float>(mean - reach), static_cast<float>(mean + reach)};
}

Range range_of(std::span<const float> values, std::string_view what) {
  if (values.empty()) return {};
  bool finite = true;
  for (const float v : values) finite &= std::isfinite(v);
  require(finite, ErrorCode::kNumeric, what,
          ": NaN or infinity; the model or the calibration data is damaged");
  return minmax_range(values);
}

void fake_quantize(std::span<const float> in, const StepAndZero& qparams, const QuantSpec& spec,
                   Rounding rounding, std::span<float> out) {
  const auto zero = static_cast<float>(qparams.zero_point),
             low = static_cast<float>(spec.min_code()), high = static_cast<float>(spec.max_code());
  const float scale = qparams.scale, inv = 1.0F / scale;
  if (rounding == Rounding::kDivide) {
    for (std::size_t i = 0; i < in.size(); ++i)
      out[i] =
          (std::min(std::max(round_half_even(in[i] / scale) + zero, low), high) - zero) * scale;
  } else {
    for (std::size_t i = 0; i < in.size(); ++i)
      out[i] = (std::min(std::max(round_half_even(in[i] * inv) + zero, low), high) - zero) * scale;
  }
}

namespace {

/// Groups need not lie side by side in x.
void fake_quantize_groups(const TensorView& x, const ActivationQuant& quant, Rounding rounding,
                          TensorSpan y, ExecContext& ctx) {
  const ChannelGroups& groups = *quant.groups;
  const auto size = static_cast<std::size_t>(groups.size());
  ctx.pool.parallel_for(x.rows(), 16, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> columns(groups.channels.size());
    for (std::int64_t i = begin; i < end; ++i) {
      groups.gather(x.row(i), columns.data());
      for (std::size_t g = 0; g < groups.steps.size(); ++g) {
        const std::span<float> part(columns.data() + g * size, size);
        fake_quantize(part, groups.steps[g], quant.spec, rounding, part);
      }
      float* out = y.f32().data() + i * x.cols();
      for (std::size_t c = 0; c < columns.size(); ++c) out[groups.channels[c]] = columns[c];
    }
  });
}

}  // namespace

void fake_quantize_activations(const TensorView& x, const ActivationQuant& quant, Rounding rounding,
                               TensorSpan y, ExecContext& ctx) {
  if (quant.groups) return fake_quantize_groups(x, quant, rounding, y, ctx);
  const std::span<const float> in = x.f32();
  const std::span<float> out = y.f32();
  const std::int64_t size =
      quant.spec.dynamic ? group_elements(x.numel(), x.cols(), quant.spec) : x.cols();
  if (x.numel() == 0) return;
  if (divides_at_run_time(quant.spec)) rounding = Rounding::kDivide;
  const std::int64_t chunk = std::max<std::int64_t>(1, (1 << 14) / size);
  ctx.pool.parallel_for(x.numel() / size, chunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t g = begin; g < end; ++g) {
      const auto part =
          in.subspan(static_cast<std::size_t>(g * size), static_cast<std::size_t>(size));
      const StepAndZero qp =
          quant.spec.dynamic ? calculate_qparams(minmax_range(part), quant.spec) : quant.qparams;
      fake_quantize(
          part, qp, quant.spec, rounding,
          out.subspan(static_cast<std::size_t>(g * size), static_cast<std::size_t>(size)));
    }
  });
}

std::int64_t num_groups(const TensorView& w, const QuantSpec& spec) {
  return w.numel() == 0 ? 0 : w.numel() / group_elements(w.numel(), w.cols(), spec);
}

namespace {

/// Codes of group `g` with the given range, its step and zero point.
void encode_group(const float* in, std::int64_t size, Range range, std::int64_t g, QTensor& q) {
  const StepAndZero qp = calculate_qparams(range, q.spec);
  const auto zero = static_cast<float>(qp.zero_point), low = static_cast<float>(q.spec.min_code()),
             high = static_cast<float>(q.spec.max_code());
  std::int16_t* codes = q.codes.as<std::int16_t>().data() + g * size;
  for (std::int64_t i = 0; i < size; ++i)
    codes[i] =
        static_cast<std::int16_t>(std::clamp(round_half_even(in[i] / qp.scale) + zero, low, high));
  const auto at = static_cast<std::size_t>(g);
  q.qparams.scale.f32()[at] = qp.scale;
  q.qparams.zero_point.as<std::int32_t>()[at] = qp.zero_point;
}

QTensor empty_codes(const TensorView& w, const QuantSpec& spec) {
  validate(spec, w.cols(), "weight");
  const std::int64_t groups = num_groups(w, spec);
  return {
      spec, {Tensor::f32({groups}), Tensor(DType::kI32, {groups})}, Tensor(DType::kI16, w.shape())};
}

}  // namespace

QTensor quantize_weight(const TensorView& w, const QuantSpec& spec,
                        Range (*range)(std::span<const float>)) {
  QTensor q = empty_codes(w, spec);
  const std::int64_t groups = q.qparams.scale.numel(),
                     size = w.numel() / std::max<std::int64_t>(groups, 1);
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::span<const float> in(w.f32().data() + g * size, static_cast<std::size_t>(size));
    encode_group(in.data(), size, range(in), g, q);
  }
  return q;
}

QTensor quantize_weight(const TensorView& w, const QuantSpec& spec,
                        std::span<const float> importance, ExecContext& ctx) {
  QTensor q = empty_codes(w, spec);
  const std::int64_t groups = q.qparams.scale.numel(),
                     size = w.numel() / std::max<std::int64_t>(groups, 1), columns = w.cols();
  ctx.pool.parallel_for(groups, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> rounded(static_cast<std::size_t>(size));
    for (std::int64_t g = begin; g < end; ++g) {
      const std::span<const float> in(w.f32().data() + g * size, static_cast<std::size_t>(size));
      const Range widest = minmax_range(in);
      Range best = widest;
      double least = std::numeric_limits<double>::infinity();
      for (int percent = 100; percent >= 20; percent -= 2) {
        const float share = static_cast<float>(percent) / 100.0F;
        const Range range{widest.min * share, widest.max * share};
        fake_quantize(in, calculate_qparams(range, spec), spec, Rounding::kDivide, rounded);
        double error = 0;
        for (std::int64_t i = 0; i < size; i += columns) {  // pieces of rows: groups lie inside one
          const float* weight = importance.data() + (g * size + i) % columns;
          float sum = 0;
          for (std::int64_t k = i; k < std::min(size, i + columns); ++k) {
            const float d = in[static_cast<std::size_t>(k)] - rounded[static_cast<std::size_t>(k)];
            sum += weight[k - i] * d * d;
          }
          error += static_cast<double>(sum);
        }
        if (error < least) least = error, best = range;
      }
      encode_group(in.data(), size, best, g, q);
    }
  });
  return q;
}

void divide_row_steps(QTensor& q, std::span<const float> divisor) {
  require(q.spec.granularity != Granularity::kPerTensor, ErrorCode::kUnsupported,
          "a scaled producer needs one step a row or group; its weight is quantized per tensor");
  const std::int64_t groups = q.qparams.scale.numel(), rows = q.codes.rows();
  for (std::int64_t g = 0; g < groups; ++g)
    q.qparams.scale.f32()[static_cast<std::size_t>(g)] /=
        divisor[static_cast<std::size_t>(g / (groups / rows))];
}

Tensor dequantize(const QTensor& q) {
  Tensor out = Tensor::f32(q.codes.shape());
  const std::int64_t groups = q.qparams.scale.numel(), size = groups ? out.numel() / groups : 0;
  const std::int16_t* codes = q.codes.as<std::int16_t>().data();
  for (std::int64_t g = 0; g < groups; ++g) {
    const StepAndZero qp = q.qparams.at(g);
    for (std::int64_t i = g * size; i < (g + 1) * size; ++i)
      out.f32()[static_cast<std::size_t>(i)] = dequantize_code(codes[i], qp);
  }
  return out;
}

void fake_quantize_weight(const TensorView& w, const QuantSpec& spec, TensorSpan out,
                          ExecContext& ctx) {
  const std::int64_t groups = num_groups(w, spec), size = groups ? w.numel() / groups : 0;
  ctx.pool.parallel_for(
      groups, std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(size, 1)),
      [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t g = begin; g < end; ++g) {
          const std::span<const float> part(w.f32().data() + g * size,
                                            static_cast<std::size_t>(size));
          fake_quantize(part, calculate_qparams(minmax_range(part), spec), spec, Rounding::kDivide,
                        out.f32().subspan(static_cast<std::size_t>(g * size),
                                          static_cast<std::size_t>(size)));
        }
      });
}

void fake_quantize_rounded(const QuantSpec& spec, const StepAndZero* step, DType arithmetic,
                           Tensor& x, ExecContext& ctx) {
  const auto rounded = [arithmetic](float v) { return round_to(arithmetic, v); };
  const auto low = static_cast<float>(spec.min_code()), high = static_cast<float>(spec.max_code());
  const std::int64_t groups = step ? x.rows() : num_groups(x, spec),
                     size = groups ? x.numel() / groups : 0;
  ctx.pool.parallel_for(groups, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t g = begin; g < end; ++g) {
      const std::span<float> part =
          x.f32().subspan(static_cast<std::size_t>(g * size), static_cast<std::size_t>(size));
      const StepAndZero qp = step ? *step : calculate_qparams(minmax_range(part), spec, arithmetic);
      const auto zero = static_cast<float>(qp.zero_point);
      for (float& v : part)
        v = rounded((std::clamp(round_half_even(rounded(v / qp.scale)) + zero, low, high) - zero) *
                    qp.scale);
    }
  });
}

}  // namespace quell
