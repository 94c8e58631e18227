#include "quell/ops/elementwise.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "quell/base/error.h"
#include "quell/kernels/rows/rows.h"

namespace quell {
namespace {

struct Named {
  std::string_view name;
  ActivationKind kind;
};
/// The names that transformers has for them; several implementations of one function are one here.
constexpr Named kActivations[] = {{"relu", ActivationKind::kRelu},
                                  {"gelu", ActivationKind::kGelu},
                                  {"gelu_python", ActivationKind::kGelu},
                                  {"gelu_new", ActivationKind::kGeluTanh},
                                  {"gelu_fast", ActivationKind::kGeluTanh},
                                  {"gelu_accurate", ActivationKind::kGeluTanh},
                                  {"gelu_pytorch_tanh", ActivationKind::kGeluTanh},
                                  {"gelu_python_tanh", ActivationKind::kGeluTanh},
                                  {"silu", ActivationKind::kSilu},
                                  {"swish", ActivationKind::kSilu},
                                  {"tanh", ActivationKind::kTanh},
                                  {"relu2", ActivationKind::kRelu2}};

constexpr std::int64_t kElementChunk = 1 << 14;

void same_shape(const TensorView& a, const TensorView& b, const char* what) {
  require(a.numel() == b.numel() && a.cols() == b.cols(), ErrorCode::kInvalidInput, what,
          ": shapes ", a.shape().to_string(), " and ", b.shape().to_string(), " differ");
}

const float* data_or_null(const TensorView& v) { return v.numel() ? v.f32().data() : nullptr; }

}  // namespace

std::optional<ActivationKind> activation_from_name(std::string_view name) {
  for (const Named& row : kActivations)
    if (row.name == name) return row.kind;
  return std::nullopt;
}

std::string_view activation_name(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kRelu: return "relu";
    case ActivationKind::kGelu: return "gelu";
    case ActivationKind::kGeluTanh: return "gelu_tanh";
    case ActivationKind::kSilu: return "silu";
    case ActivationKind::kTanh: return "tanh";
    case ActivationKind::kRelu6: return "relu6";
    case ActivationKind::kHardSwish: return "hard_swish";
    case ActivationKind::kHardTanh: return "hard_tanh";
    case ActivationKind::kSigmoid: return "sigmoid";
    case ActivationKind::kSign: return "sign";
    case ActivationKind::kRelu2: return "relu2";
  }
  return "?";
}

std::optional<kernels::Activation> fused_activation(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kRelu: return kernels::Activation::kRelu;
    case ActivationKind::kGelu: return kernels::Activation::kGelu;
    case ActivationKind::kGeluTanh: return kernels::Activation::kGeluTanh;
    case ActivationKind::kSilu: return kernels::Activation::kSilu;
    case ActivationKind::kTanh: return kernels::Activation::kTanh;
    case ActivationKind::kRelu6: return kernels::Activation::kRelu6;
    case ActivationKind::kHardSwish:
    case ActivationKind::kHardTanh:
    case ActivationKind::kSigmoid:
    case ActivationKind::kSign:
    case ActivationKind::kRelu2: break;
  }
  return std::nullopt;
}

namespace {

/// Those without a kernel.
float activated(ActivationKind kind, float x) {
  switch (kind) {
    case ActivationKind::kHardSwish: return x * std::clamp(x + 3.0F, 0.0F, 6.0F) / 6.0F;
    case ActivationKind::kHardTanh: return std::clamp(x, -1.0F, 1.0F);
    case ActivationKind::kSigmoid: return 1.0F / (1.0F + std::exp(-x));
    case ActivationKind::kRelu2: return std::max(x, 0.0F) * std::max(x, 0.0F);
    default: return static_cast<float>((x > 0) - (x < 0));
  }
}

}  // namespace

void normalize(NormKind kind, const TensorView& x, const TensorView& weight, const TensorView& bias,
               double eps, TensorSpan y, ExecContext& ctx) {
  same_shape(x, y, "norm");
  require((weight.numel() == 0 || weight.numel() == x.cols()) &&
              (bias.numel() == 0 || bias.numel() == x.cols()),
          ErrorCode::kInvalidInput, "norm: parameters do not have ", x.cols(), " elements");
  const kernels::RowKernels& rows = kernels::row_kernels(ctx.isa);
  ctx.pool.parallel_for(x.rows(), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      rows.normalize(kind == NormKind::kLayerNorm, x.row(i), data_or_null(weight),
                     data_or_null(bias), eps, x.cols(), {y.row(i), nullptr, {}});
  });
}

void activate(ActivationKind kind, const TensorView& x, TensorSpan y, ExecContext& ctx) {
  same_shape(x, y, "activation");
  const float* in = x.f32().data();
  float* out = y.f32().data();
  const std::optional<kernels::Activation> fused = fused_activation(kind);
  ctx.pool.parallel_for(x.numel(), kElementChunk, [&](std::int64_t begin, std::int64_t end) {
    if (fused) {
      kernels::row_kernels(ctx.isa).activate(*fused, in + begin, out + begin, end - begin);
      return;
    }
    for (std::int64_t i = begin; i < end; ++i) out[i] = activated(kind, in[i]);
  });
}

void add(const TensorView& a, const TensorView& b, TensorSpan y, ExecContext& ctx) {
  same_shape(a, b, "add");
  const float *pa = a.f32().data(), *pb = b.f32().data();
  float* out = y.f32().data();
  ctx.pool.parallel_for(a.numel(), kElementChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) out[i] = pa[i] + pb[i];
  });
}

void multiply(const TensorView& a, const TensorView& b, TensorSpan y, ExecContext& ctx) {
  same_shape(a, b, "multiply");
  const float *pa = a.f32().data(), *pb = b.f32().data();
  float* out = y.f32().data();
  ctx.pool.parallel_for(a.numel(), kElementChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) out[i] = pa[i] * pb[i];
  });
}

void check_row_ids(std::span<const std::int32_t> ids, std::int64_t rows, std::string_view what) {
  for (const std::int32_t id : ids)
    require(id >= 0 && id < rows, ErrorCode::kInvalidInput, what, " ", id,
            " is outside the table of ", rows, " rows; does the data belong to this model?");
}

void gather_rows(const TensorView& table, std::span<const std::int32_t> ids, std::string_view what,
                 TensorSpan y) {
  check_row_ids(ids, table.rows(), what);
  for (std::size_t t = 0; t < ids.size(); ++t)
    std::copy_n(table.row(ids[t]), table.cols(), y.row(static_cast<std::int64_t>(t)));
}

double activation_derivative(ActivationKind kind, double x) {
  constexpr double kSqrt2 = std::numbers::sqrt2, kInvSqrtPi = std::numbers::inv_sqrtpi;
  switch (kind) {
    case ActivationKind::kRelu: return x > 0 ? 1 : 0;
    case ActivationKind::kGelu:
      return 0.5 * (1 + std::erf(x / kSqrt2)) + x * std::exp(-x * x / 2) * kInvSqrtPi / kSqrt2;
    case ActivationKind::kGeluTanh: {
      const double c = kSqrt2 * kInvSqrtPi, t = std::tanh(c * (x + 0.044715 * x * x * x));
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
    }
    case ActivationKind::kSilu: {
      const double s = 1 / (1 + std::exp(-x));
      return s * (1 + x * (1 - s));
    }
    case ActivationKind::kTanh: return 1 - std::tanh(x) * std::tanh(x);
    case ActivationKind::kRelu6: return x > 0 && x < 6 ? 1 : 0;
    case ActivationKind::kHardSwish:
      if (std::abs(x) >= 3) return x > 0 ? 1 : 0;
      return x / 3 + 0.5;
    case ActivationKind::kHardTanh: return std::abs(x) < 1 ? 1 : 0;
    case ActivationKind::kSigmoid: {
      const double s = 1 / (1 + std::exp(-x));
      return s * (1 - s);
    }
    case ActivationKind::kSign: return 0;
    case ActivationKind::kRelu2: return 2 * std::max(x, 0.0);
  }
  return 0;
}

void affine_columns(const TensorView& x, const TensorView& scale, const TensorView& shift,
                    TensorSpan y, ExecContext& ctx) {
  const float *s = scale.f32().data(), *h = data_or_null(shift);
  ctx.pool.parallel_for(x.rows(), 64, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t n = x.cols();
    for (std::int64_t i = begin; i < end; ++i) {
      const float* in = x.row(i);
      float* out = y.row(i);
      for (std::int64_t j = 0; j < n; ++j) out[j] = in[j] * s[j] + (h ? h[j] : 0.0F);
    }
  });
}

void inverse_affine_columns(const TensorView& x, const TensorView& scale, const TensorView& shift,
                            TensorSpan y, ExecContext& ctx) {
  const float *s = scale.f32().data(), *h = data_or_null(shift);
  ctx.pool.parallel_for(x.rows(), 64, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t n = x.cols();
    for (std::int64_t i = begin; i < end; ++i) {
      const float* in = x.row(i);
      float* out = y.row(i);
      for (std::int64_t j = 0; j < n; ++j) out[j] = (in[j] - (h ? h[j] : 0.0F)) / s[j];
    }
  });
}

void round_values(DType type, TensorSpan x, ExecContext& ctx) {
  if (type == DType::kF32) return;
  const std::span<float> values = x.f32();
  ctx.pool.parallel_for(x.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      float& v = values[static_cast<std::size_t>(i)];
      v = round_to(type, v);
    }
  });
}

}  // namespace quell
