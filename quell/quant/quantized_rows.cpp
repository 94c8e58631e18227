#include "quell/quant/quantized_rows.h"

#include <cmath>

#include "quell/base/error.h"
#include "quell/kernels/gemm_s8/gemm_s8.h"
#include "quell/kernels/rows/rows.h"

namespace quell {

std::int32_t code_shift(const QuantSpec& spec) {
  return spec.symmetric ? 1 << (spec.num_bits - 1) : 0;
}

kernels::CodeArgs code_args(const QuantSpec& spec, const StepAndZero& qparams) {
  const std::int32_t shift = code_shift(spec);
  return {1.0F / qparams.scale, qparams.zero_point + shift, spec.min_code() + shift,
          spec.max_code() + shift};
}

QuantizedRows make_quantized_rows(std::int64_t rows, std::int64_t columns,
                                  const ActivationQuant& quant, std::int64_t stride) {
  QuantizedRows out;
  out.rows = rows;
  out.columns = columns;
  out.stride = stride > 0 ? stride : kernels::code_stride(columns);
  out.quant = quant;
  // Kernels read whole groups of columns, also behind the last head of the last row.
  out.codes = Tensor::uninitialized(DType::kU8, {rows * out.stride + kernels::kPackedK});
  return out;
}

namespace {

void quantize_channel_groups(const TensorView& x, QuantizedRows& out, ExecContext& ctx) {
  const ChannelGroups& groups = *out.quant.groups;
  const kernels::RowKernels& k = kernels::row_kernels(ctx.isa);
  const std::int64_t size = groups.size();
  ctx.pool.parallel_for(out.rows, 16, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> columns(groups.channels.size());
    for (std::int64_t i = begin; i < end; ++i) {
      groups.gather(x.row(i), columns.data());
      std::int32_t sum = 0;
      for (std::size_t g = 0; g < groups.steps.size(); ++g) {
        const std::int64_t first = static_cast<std::int64_t>(g) * size;
        sum += k.quantize(columns.data() + first, size, code_args(out.quant.spec, groups.steps[g]),
                          out.row(i) + first);
      }
      if (!out.sum.empty()) out.sum[static_cast<std::size_t>(i)] = sum;
    }
  });
}

}  // namespace

QuantizedRows quantize_rows(const TensorView& x, const ActivationQuant& quant, bool with_sums,
                            ExecContext& ctx, std::int64_t stride) {
  QuantizedRows out = make_quantized_rows(x.rows(), x.cols(), quant, stride);
  const QuantSpec& spec = quant.spec;
  const auto rows = static_cast<std::size_t>(out.rows);
  if (with_sums) out.sum.resize(rows);
  if (quant.groups) {
    quantize_channel_groups(x, out, ctx);
    return out;
  }
  const std::int64_t groups = out.groups(), size = out.group_size();
  if (spec.dynamic) {
    out.scale.resize(rows * static_cast<std::size_t>(groups));
    out.zero.resize(out.scale.size());
  }
  const kernels::RowKernels& k = kernels::row_kernels(ctx.isa);
  const kernels::CodeArgs fixed = code_args(spec, quant.qparams);
  const std::int64_t n = x.cols(),
                     chunk = std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(n, 1));
  ctx.pool.parallel_for(out.rows, chunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * groups; i < end * groups; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const std::int64_t row = i / groups, column = i % groups * size;
      const float* values = x.row(row) + column;
      kernels::CodeArgs args = fixed;
      float step = quant.qparams.scale;
      if (spec.dynamic) {
        const kernels::RowRange r = k.range(values, size);
        require(std::isfinite(r.min) && std::isfinite(r.max), ErrorCode::kNumeric,
                "activation: NaN or infinity; the model or the data is damaged");
        const StepAndZero qp = calculate_qparams({r.min, r.max}, spec);
        args = code_args(spec, qp);
        step = qp.scale;
        out.scale[at] = qp.scale;
        out.zero[at] = qp.zero_point + code_shift(spec);
      }
      std::uint8_t* codes = out.row(row) + column;
      const std::int32_t sum =
          divides_at_run_time(spec)
              ? k.quantize_scaled(values, nullptr, kernels::Factor::kNone, size, step, args, codes)
              : k.quantize(values, size, args, codes);
      if (with_sums) out.sum[static_cast<std::size_t>(row)] += sum;
    }
  });
  return out;
}

QuantizedRows with_stride(const QuantizedRows& x, std::int64_t stride) {
  QuantizedRows out = make_quantized_rows(x.rows, x.columns, x.quant, stride);
  out.scale = x.scale;
  out.zero = x.zero;
  out.sum = x.sum;
  for (std::int64_t i = 0; i < x.rows; ++i) std::copy_n(x.row(i), x.columns, out.row(i));
  return out;
}

QuantizedRows take_rows(const QuantizedRows& x, std::span<const std::int64_t> rows) {
  QuantizedRows out =
      make_quantized_rows(static_cast<std::int64_t>(rows.size()), x.columns, x.quant, x.stride);
  const std::int64_t groups = x.groups();
  const bool own_steps = !x.scale.empty();
  if (own_steps) {
    out.scale.clear();
    out.zero.clear();
  }

  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(x.row(rows[i]), x.stride, out.row(static_cast<std::int64_t>(i)));
    if (!own_steps) continue;
    const std::int64_t first = rows[i] * groups;
    out.scale.insert(out.scale.end(), x.scale.begin() + first, x.scale.begin() + first + groups);
    out.zero.insert(out.zero.end(), x.zero.begin() + first, x.zero.begin() + first + groups);
  }
  return out;
}

Tensor dequantize_rows(const QuantizedRows& x, ExecContext& ctx) {
  Tensor out = Tensor::f32({x.rows, x.columns});
  const std::int32_t shift = code_shift(x.quant.spec);
  if (const ChannelGroups* groups = x.quant.groups.get()) {
    ctx.pool.parallel_for(x.rows, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        for (std::int64_t c = 0; c < x.columns; ++c) {
          const StepAndZero& step = groups->steps[static_cast<std::size_t>(c / groups->size())];
          out.row(i)[groups->channels[static_cast<std::size_t>(c)]] =
              static_cast<float>(x.row(i)[c] - step.zero_point - shift) * step.scale;
        }
    });
    return out;
  }
  ctx.pool.parallel_for(x.rows, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * x.groups(); i < end * x.groups(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      const std::int64_t row = i / x.groups(), first = i % x.groups() * x.group_size();
      const bool dynamic = x.quant.spec.dynamic;
      const std::int32_t zero = dynamic ? x.zero[at] : x.quant.qparams.zero_point + shift;
      const float scale = dynamic ? x.scale[at] : x.quant.qparams.scale;
      for (std::int64_t j = first; j < first + x.group_size(); ++j)
        out.row(row)[j] = static_cast<float>(x.row(row)[j] - zero) * scale;
    }
  });
  return out;
}

}  // namespace quell
