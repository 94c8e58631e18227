// y = s_x s_w[j] (acc + c[j]) + b[j], or with weights in groups s_x (sum over g of s_w[j,g] acc_g +
// c[j]) + b[j], or with activations in groups sum over g of s_x[g] s_w[j,g] (acc_g + c[j,g]) +
// b[j]. Static steps of groups of channels belong to the groups of the weights then, so that no row
// needs a step of its own. Codes are held as the kernels want them: activations u8 (signed codes
// shifted up), weights s8 (unsigned codes shifted down); zero points move along, so the integers
// are the same.
#include <algorithm>
#include <limits>
#include <numeric>

#include "quell/base/error.h"
#include "quell/quant/quantized_linear.h"

namespace quell {
namespace {

constexpr std::int64_t kGateGroup = 16;  // columns of gate and of up side by side
constexpr int kWholeCode = 8;            // bits

void check(const QTensor& weight, const ActivationQuant& input) {
  const bool grouped_x = input.spec.granularity == Granularity::kPerGroup,
             grouped_w = weight.spec.granularity == Granularity::kPerGroup;
  require(!grouped_w || weight.spec.group_size % kIntegerGroupUnit == 0, ErrorCode::kUnsupported,
          "weights in groups of ", weight.spec.group_size,
          " run simulated only; integer kernels take multiples of ", kIntegerGroupUnit);
  require(!grouped_x || (input.spec.group_size % kIntegerGroupUnit == 0 &&
                         weight.codes.cols() % input.spec.group_size == 0),
          ErrorCode::kUnsupported, "activations of ", weight.codes.cols(), " columns in groups of ",
          input.spec.group_size, " have no integer kernel; take a multiple of ", kIntegerGroupUnit,
          " that divides the columns");
  if (const ChannelGroups* groups = input.groups.get()) {
    require(!grouped_w, ErrorCode::kUnsupported,
            "weights in groups and static groups of channels run simulated only");
    require(groups->size() % kIntegerGroupUnit == 0 &&
                static_cast<std::int64_t>(groups->channels.size()) == weight.codes.cols(),
            ErrorCode::kUnsupported, groups->channels.size(), " channels in groups of ",
            groups->size(), " for ", weight.codes.cols(),
            " columns have no integer kernel; take a multiple of ", kIntegerGroupUnit);
  }
  require(!grouped_x || !grouped_w || input.spec.group_size == weight.spec.group_size,
          ErrorCode::kUnsupported, "activations in groups of ", input.spec.group_size,
          " and weights in groups of ", weight.spec.group_size,
          " run simulated only; use one size for both, or --engine simulated");
  require(!input.spec.dynamic || grouped_x || input.spec.granularity == Granularity::kPerToken,
          ErrorCode::kUnsupported, "dynamic activations per ",
          granularity_name(input.spec.granularity),
          " have no integer kernel; use per token or group");
  // |acc| and its corrections must fit in int32: K * 255 * 255 each.
  require(weight.codes.cols() <= std::numeric_limits<std::int32_t>::max() / (255 * 255),
          ErrorCode::kUnsupported, "a linear of ", weight.codes.cols(),
          " columns could overflow 32-bit sums");
}

/// [rows, groups] sums of stored codes.
std::vector<std::int32_t> sums_by_group(const QuantizedRows& x, std::int64_t size,
                                        std::int64_t groups, ExecContext& ctx) {
  std::vector<std::int32_t> sums(static_cast<std::size_t>(x.rows * groups));
  ctx.pool.parallel_for(x.rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * groups; i < end * groups; ++i) {
      const std::uint8_t* codes = x.row(i / groups) + i % groups * size;
      sums[static_cast<std::size_t>(i)] = std::accumulate(codes, codes + size, std::int32_t{0});
    }
  });
  return sums;
}

}  // namespace

struct IntegerLinear::Columns {
  std::int64_t n = 0, k = 0;
  std::int64_t group_size = 0, groups = 1;  ///< 0: one step a column
  int num_bits = 8;
  bool symmetric = true;
  std::vector<std::int8_t> codes;        ///< [n, k]
  std::vector<float> bias;               ///< [n]
  std::vector<float> scale;              ///< [n, groups]
  std::vector<std::int32_t> zero;        ///< [n, groups]
  std::vector<std::int32_t> input_zero;  ///< [groups]: stored zero points of a static input

  void resize(std::int64_t rows) {
    n = rows;
    codes.resize(static_cast<std::size_t>(n * k));
    bias.resize(static_cast<std::size_t>(n));
    scale.resize(static_cast<std::size_t>(n * groups));
    zero.resize(static_cast<std::size_t>(n * groups));
  }
  /// Column `to` of this becomes column `from` of `other`.
  void take(std::int64_t to, const Columns& other, std::int64_t from) {
    std::copy_n(other.codes.begin() + from * k, k, codes.begin() + to * k);
    bias[static_cast<std::size_t>(to)] = other.bias[static_cast<std::size_t>(from)];
    std::copy_n(other.scale.begin() + from * groups, groups, scale.begin() + to * groups);
    std::copy_n(other.zero.begin() + from * groups, groups, zero.begin() + to * groups);
  }
};

IntegerLinear::Columns IntegerLinear::columns_of(const QTensor& weight, const TensorView& bias,
                                                 const ActivationQuant& input) {
  Columns c;
  c.k = weight.codes.cols();
  c.num_bits = weight.spec.num_bits;
  c.symmetric = weight.spec.symmetric;
  const bool grouped = weight.spec.granularity == Granularity::kPerGroup;
  if (grouped || input.groups || input.spec.granularity == Granularity::kPerGroup) {
    c.group_size = grouped        ? weight.spec.group_size
                   : input.groups ? input.groups->size()
                                  : input.spec.group_size;
    c.groups = c.k / c.group_size;
  }
  c.input_zero.assign(static_cast<std::size_t>(c.groups),
                      input.qparams.zero_point + code_shift(input.spec));
  c.resize(weight.codes.rows());
  const std::int32_t shift = c.symmetric ? 0 : 1 << (c.num_bits - 1);
  const std::int16_t* in = weight.codes.as<std::int16_t>().data();
  for (std::size_t i = 0; i < c.codes.size(); ++i)
    c.codes[i] = static_cast<std::int8_t>(in[i] - shift);
  const bool per_tensor = weight.spec.granularity == Granularity::kPerTensor;
  for (std::int64_t i = 0; i < c.n * c.groups; ++i) {
    const StepAndZero qp = weight.qparams.at(per_tensor ? 0 : grouped ? i : i / c.groups);
    c.scale[static_cast<std::size_t>(i)] = qp.scale;
    c.zero[static_cast<std::size_t>(i)] = qp.zero_point - shift;
  }
  if (input.groups) {
    for (std::int64_t i = 0; i < c.n; ++i)
      for (std::int64_t k = 0; k < c.k; ++k)
        c.codes[static_cast<std::size_t>(i * c.k + k)] = static_cast<std::int8_t>(
            in[i * c.k + input.groups->channels[static_cast<std::size_t>(k)]] - shift);
    for (std::size_t g = 0; g < input.groups->steps.size(); ++g) {
      const StepAndZero& step = input.groups->steps[g];
      for (std::size_t i = g; i < c.scale.size(); i += input.groups->steps.size())
        c.scale[i] *= step.scale;
      c.input_zero[g] = step.zero_point + code_shift(input.spec);
    }
  }
  if (bias.numel()) std::copy(bias.f32().begin(), bias.f32().end(), c.bias.begin());
  return c;
}

IntegerLinear::IntegerLinear(const Columns& c, const ActivationQuant& input, bool gated,
                             const IntegerLinearOptions& options)
    : input_(input),
      gated_(gated),
      exact_(options.exact_simulation),
      asymmetric_weight_(!c.symmetric) {
  int max_abs = 0;
  for (const std::int8_t code : c.codes)
    max_abs = std::max(max_abs, std::abs(static_cast<int>(code)));
  const int max_x = input.spec.max_code() + code_shift(input.spec);
  const int weight_bits =
      options.pack_weights && !exact_ ? kernels::packed_bits_of(c.codes) : kWholeCode;
  const Isa isa = exact_ ? Isa::kPortable : options.isa;
  kernel_ = &kernels::choose_gemm_s8(isa, max_x, max_abs, weight_bits, c.group_size);
  packed_ = kernels::pack_weights(c.codes.data(), c.n, c.k, kernel_->layout);

  const auto padded = static_cast<std::size_t>(packed_.padded_n());
  scale_.assign(padded, 0.0F);
  bias_.assign(padded, 0.0F);
  offset_.assign(padded, 0);
  if (asymmetric_weight_) weight_zero_.assign(padded, 0);
  if (c.group_size > 0) {
    pack_groups(c);
    return;
  }
  const std::int32_t zero = c.input_zero.front();
  for (std::size_t j = 0; j < static_cast<std::size_t>(c.n); ++j) {
    scale_[j] = input.spec.dynamic ? c.scale[j] : input.qparams.scale * c.scale[j];
    bias_[j] = c.bias[j];
    offset_[j] = input.spec.dynamic ? -packed_.row_sum[j] : -zero * packed_.row_sum[j];
    if (asymmetric_weight_) weight_zero_[j] = c.zero[j];
  }
}

void IntegerLinear::pack_groups(const Columns& c) {
  packed_.group_size = c.group_size;
  const auto all = static_cast<std::size_t>(packed_.padded_n() * c.groups);
  packed_.group_scale.assign(all, 0.0F);
  if (asymmetric_weight_) packed_.group_zero.assign(all, 0);
  const bool grouped_input = input_.spec.granularity == Granularity::kPerGroup;
  if (grouped_input) packed_.group_sum.assign(all, 0);
  group_offset_.assign(static_cast<std::size_t>(packed_.padded_n()), 0.0F);
  for (std::int64_t j = 0; j < c.n; ++j) {
    double offset =
        0;  // what an input at its zero points, or of ones where they are not known yet, takes away
    for (std::int64_t g = 0; g < c.groups; ++g) {
      const std::int8_t* codes = c.codes.data() + j * c.k + g * c.group_size;
      const auto from = static_cast<std::size_t>(j * c.groups + g),
                 to = static_cast<std::size_t>(packed_.group_at(j / kernels::kPanel, g) +
                                               j % kernels::kPanel);
      packed_.group_scale[to] = c.scale[from];
      if (asymmetric_weight_) packed_.group_zero[to] = c.zero[from];
      const std::int64_t sum = std::accumulate(codes, codes + c.group_size, std::int64_t{0}) -
                               c.group_size * c.zero[from];
      if (grouped_input) packed_.group_sum[to] = static_cast<std::int32_t>(sum);
      const std::int32_t zero = input_.spec.dynamic ? 1 : c.input_zero[static_cast<std::size_t>(g)];
      offset -= static_cast<double>(c.scale[from]) * static_cast<double>(sum * zero);
    }
    const auto at = static_cast<std::size_t>(j);
    group_offset_[at] = static_cast<float>(offset);
    scale_[at] = input_.spec.dynamic || input_.groups ? 1.0F : input_.qparams.scale;
    bias_[at] = c.bias[at];
  }
}

IntegerLinear::IntegerLinear(const QTensor& weight, const TensorView& bias,
                             const ActivationQuant& input, const IntegerLinearOptions& options)
    : IntegerLinear((check(weight, input), columns_of(weight, bias, input)), input, false,
                    options) {}

std::unique_ptr<IntegerLinear> IntegerLinear::gated(const QTensor& gate,
                                                    const TensorView& gate_bias, const QTensor& up,
                                                    const TensorView& up_bias,
                                                    const ActivationQuant& input,
                                                    const IntegerLinearOptions& options) {
  check(gate, input);
  check(up, input);
  require(gate.codes.shape() == up.codes.shape() && gate.spec == up.spec, ErrorCode::kUnsupported,
          "gate and up differ in shape or scheme");
  const Columns g = columns_of(gate, gate_bias, input), u = columns_of(up, up_bias, input);
  Columns both;
  both.k = g.k;
  both.group_size = g.group_size;
  both.groups = g.groups;
  both.num_bits = g.num_bits;
  both.symmetric = g.symmetric;
  both.input_zero = g.input_zero;
  both.resize(kernels::round_up(g.n, kGateGroup) * 2);
  for (std::int64_t j = 0; j < g.n; ++j) {
    const std::int64_t to = j / kGateGroup * 2 * kGateGroup + j % kGateGroup;
    both.take(to, g, j);
    both.take(to + kGateGroup, u, j);
  }
  return std::unique_ptr<IntegerLinear>(new IntegerLinear(both, input, true, options));
}

void IntegerLinear::forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const {
  require(x.cols() == packed_.k && y.cols() == columns() && y.rows() == x.rows(),
          ErrorCode::kInvalidInput, "integer linear: shapes ", x.shape().to_string(), " -> ",
          y.shape().to_string(), " do not fit [", columns(), ", ", packed_.k, "]");
  LinearOutput output;
  output.f32 = y.f32().data();
  forward_rows(quantize_rows(x, input_, needs_sums(), ctx), output, ctx);
}

void IntegerLinear::forward_rows(const QuantizedRows& x, const LinearOutput& output,
                                 ExecContext& ctx) const {
  // Rows of pixels lie closer than products of matrices read them.
  if (x.stride < packed_.padded_k())
    return forward_rows(with_stride(x, kernels::code_stride(x.columns)), output, ctx);

  kernels::Epilogue e;
  e.scale = scale_.data();
  e.bias = bias_.data();
  std::vector<std::int32_t> term;
  const bool groups = packed_.group_size > 0;
  if (x.grouped()) {
    e.row_group_scale = x.scale.data();
    e.row_group_zero = x.zero.data();
  } else {
    set_zero_point_terms(x, packed_.k, groups ? nullptr : offset_.data(),
                         needs_sums() ? weight_zero_.data() : nullptr, term, e);
    e.group_offset = groups ? group_offset_.data() : nullptr;
  }
  if (groups && asymmetric_weight_) {
    term = sums_by_group(x, packed_.group_size, packed_.groups(), ctx);
    e.row_group_sum = term.data();
  }
  e.gated = gated_;
  set_output(output, columns(), e);
  run_gemm(*kernel_, x, packed_, e, ctx);
}

void set_output(const LinearOutput& output, std::int64_t columns, kernels::Epilogue& e) {
  e.activation = output.activation;
  e.residual = output.residual;
  if (!output.codes) {
    e.f32 = output.f32;
    e.ld_out = columns;
    return;
  }

  e.codes = output.codes->codes.as<std::uint8_t>().data();
  e.ld_out = output.codes->stride;
  e.code_args = code_args(output.codes->quant.spec, output.codes->quant.qparams);
  e.code_args.low = std::max(e.code_args.low, output.code_low);
  e.code_args.high = std::min(e.code_args.high, output.code_high);
  e.code_scale = output.code_scale;
  e.code_shift = output.code_shift;
}

std::string IntegerLinear::describe() const {
  if (exact_) return "simulation with exact integer sums";
  return str("u8*s8 ", kernel_->name, ", codes up to ",
             input_.spec.max_code() + code_shift(input_.spec), " x ", packed_.max_abs,
             packed_.group_size > 0 ? str(", groups of ", packed_.group_size) : "", ", ",
             layout_name(packed_.layout), ", ", packed_bytes(), " bytes");
}

void set_zero_point_terms(const QuantizedRows& x, std::int64_t k, const std::int32_t* offset,
                          const std::int32_t* weight_zero, std::vector<std::int32_t>& row_term,
                          kernels::Epilogue& e) {
  const bool dynamic = x.quant.spec.dynamic;
  if (dynamic) {
    e.row_scale = x.scale.data();
    e.row_zero = x.zero.data();
  }
  (dynamic ? e.column_zero_factor : e.column_offset) = offset;
  if (!weight_zero) return;
  const std::int32_t fixed = x.quant.qparams.zero_point + code_shift(x.quant.spec);
  row_term.resize(x.sum.size());
  for (std::size_t i = 0; i < x.sum.size(); ++i)
    row_term[i] = static_cast<std::int32_t>(k) * (dynamic ? x.zero[i] : fixed) - x.sum[i];
  e.row_term = row_term.data();
  e.weight_zero = weight_zero;
}

namespace {

/// A multiple of what every kernel computes together.
constexpr std::int64_t kRowUnit = 96;

/// Rows whose codes take `bytes`: they stay in the second-level cache while all panels pass by.
std::int64_t rows_of(std::int64_t bytes, const QuantizedRows& x) {
  return std::max(kRowUnit, bytes / x.stride / kRowUnit * kRowUnit);
}

}  // namespace

void run_gemm(const kernels::GemmS8Kernel& kernel, const QuantizedRows& x,
              const kernels::PackedWeights& w, const kernels::Epilogue& epilogue,
              ExecContext& ctx) {
  constexpr std::int64_t kTasks = 16;
  const std::int64_t panels = w.padded_n() / kernels::kPanel;
  // Processors with AMX have larger second-level caches, and are so fast that reading the panels
  // again would be what counts.
  const std::int64_t most = rows_of(std::int64_t{kernel.isa == Isa::kAmx ? 512 : 192} << 10, x),
                     row_blocks = (x.rows + most - 1) / most;
  const std::int64_t rows = kernels::round_up((x.rows + row_blocks - 1) / row_blocks,
                                              x.rows > kRowUnit ? kernel.row_unit : 1);
  std::int64_t panel_blocks = std::min(panels, (kTasks + row_blocks - 1) / row_blocks);
  // Widened kernels convert a block's rows once per task.
  if (kernel.layout == kernels::WeightLayout::kPairs)
    panel_blocks = std::min<std::int64_t>(panel_blocks, 4);
  const std::int64_t width = (panels + panel_blocks - 1) / panel_blocks;
  panel_blocks = (panels + width - 1) / width;
  ctx.pool.parallel_for(row_blocks * panel_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t r = task / panel_blocks, p = task % panel_blocks;
      kernel.run(x.row(0), x.stride, w, epilogue, std::min(x.rows, r * rows),
                 std::min(x.rows, (r + 1) * rows), p * width, std::min(panels, (p + 1) * width));
    }
  });
}

Tensor pack_target(const TensorView& y, ExecContext& ctx) {
  const std::int64_t panels = (y.cols() + kernels::kPanel - 1) / kernels::kPanel;
  Tensor out = Tensor::f32({panels, y.rows(), kernels::kPanel});
  ctx.pool.parallel_for(panels, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p)
      for (std::int64_t i = 0; i < y.rows(); ++i)
        std::copy_n(y.row(i) + p * kernels::kPanel,
                    std::min(kernels::kPanel, y.cols() - p * kernels::kPanel),
                    out.row(p * y.rows() + i));
  });
  return out;
}

std::vector<double> gemm_squared_errors(const kernels::GemmS8Kernel& kernel, const QuantizedRows& x,
                                        const kernels::PackedWeights& w,
                                        const kernels::Epilogue& epilogue, const TensorView& target,
                                        ExecContext& ctx) {
  // One partition for all kernels, as sums are rounded in its order.
  constexpr std::int64_t kPanelBlocks = 8;
  const std::int64_t panels = w.padded_n() / kernels::kPanel,
                     width = (panels + kPanelBlocks - 1) / kPanelBlocks;
  const std::int64_t rows = rows_of(std::int64_t{512} << 10, x);
  const std::int64_t row_blocks = (x.rows + rows - 1) / rows,
                     panel_blocks = (panels + width - 1) / width;
  std::vector<double> parts(
      static_cast<std::size_t>(panel_blocks * x.rows));  // by block of panels and row
  ctx.pool.parallel_for(row_blocks * panel_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> lanes;
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t first = task / panel_blocks * rows, count = std::min(rows, x.rows - first),
                         p = task % panel_blocks;
      lanes.assign(static_cast<std::size_t>(count * kernels::kErrorLanes), 0.0);
      kernels::Epilogue e = epilogue;
      e.row_scale = e.row_scale ? e.row_scale + first : nullptr;
      e.row_zero = e.row_zero ? e.row_zero + first : nullptr;
      e.row_term = e.row_term ? e.row_term + first : nullptr;
      e.target = target.row(first);
      e.target_rows = x.rows;
      e.squared_error = lanes.data();
      kernel.run(x.row(first), x.stride, w, e, 0, count, p * width,
                 std::min(panels, (p + 1) * width));
      for (std::int64_t i = 0; i < count; ++i) {
        const auto lane = lanes.begin() + i * kernels::kErrorLanes;
        parts[static_cast<std::size_t>(p * x.rows + first + i)] =
            std::accumulate(lane, lane + kernels::kErrorLanes, 0.0);
      }
    }
  });
  std::vector<double> sums(parts.begin(), parts.begin() + x.rows);
  for (std::size_t i = sums.size(); i < parts.size(); ++i) sums[i % sums.size()] += parts[i];
  return sums;
}

}  // namespace quell
