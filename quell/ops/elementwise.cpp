#include "quell/ops/elementwise.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"

namespace quell {
namespace {

struct Named {
  std::string_view name;
  ActivationKind kind;
};
constexpr Named kActivations[] = {
    {"relu", ActivationKind::kRelu},          {"gelu", ActivationKind::kGelu}, {"gelu_tanh", ActivationKind::kGeluTanh},
    {"gelu_new", ActivationKind::kGeluTanh},  {"silu", ActivationKind::kSilu}, {"gelu_pytorch_tanh", ActivationKind::kGeluTanh},
    {"gelu_fast", ActivationKind::kGeluTanh}, {"tanh", ActivationKind::kTanh}, {"swish", ActivationKind::kSilu}};

constexpr std::int64_t kElementChunk = 1 << 14;

void same_shape(const TensorView& a, const TensorView& b, const char* what) {
  require(a.numel() == b.numel() && a.cols() == b.cols(), ErrorCode::kInvalidInput, what, ": shapes ", a.shape().to_string(),
          " and ", b.shape().to_string(), " differ");
}

/// erf within 1e-6: 1 - (1 + a1 x + ... + a6 x^6)^-16 (Abramowitz and Stegun 7.1.28), which vectorizes.
float fast_erf(float x) {
  const float a = std::fabs(x);
  float p = 1.0F + a * (0.0705230784F +
                        a * (0.0422820123F + a * (0.0092705272F + a * (0.0001520143F + a * (0.0002765672F + a * 0.0000430638F)))));
  p *= p;
  p *= p;
  p *= p;
  p *= p;
  return std::copysign(1.0F - 1.0F / p, x);
}

void gelu(const float* in, float* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = 0.5F * in[i] * (1.0F + fast_erf(in[i] * 0.70710678118654752F));
}

float activate_one(ActivationKind kind, float v) {
  switch (kind) {
    case ActivationKind::kRelu: return std::max(v, 0.0F);
    case ActivationKind::kGelu: return 0.5F * v * (1.0F + fast_erf(v * 0.70710678118654752F));
    case ActivationKind::kGeluTanh: return 0.5F * v * (1.0F + std::tanh(0.79788456080286536F * (v + 0.044715F * v * v * v)));
    case ActivationKind::kSilu: return v / (1.0F + std::exp(-v));
    case ActivationKind::kTanh: return std::tanh(v);
  }
  return v;
}

void normalize_row(NormKind kind, const float* x, const float* weight, const float* bias, double eps, float* y, std::int64_t n) {
  double mean = 0.0;
  if (kind == NormKind::kLayerNorm) {
    for (std::int64_t j = 0; j < n; ++j) mean += x[j];
    mean /= static_cast<double>(n);
  }
  double variance = 0.0;
  for (std::int64_t j = 0; j < n; ++j) variance += (x[j] - mean) * (x[j] - mean);
  const auto inv = static_cast<float>(1.0 / std::sqrt(variance / static_cast<double>(n) + eps));
  const auto center = static_cast<float>(mean);
  for (std::int64_t j = 0; j < n; ++j) {
    float v = (x[j] - center) * inv;
    if (weight) v *= weight[j];
    if (bias) v += bias[j];
    y[j] = v;
  }
}

const float* data_or_null(const TensorView& v) { return v.numel() ? v.f32().data() : nullptr; }

}  // namespace

std::optional<ActivationKind> activation_from_name(std::string_view name) {
  for (const Named& row : kActivations)
    if (row.name == name) return row.kind;
  return std::nullopt;
}

std::string_view activation_name(ActivationKind kind) {
  for (const Named& row : kActivations)
    if (row.kind == kind) return row.name;
  return "?";
}

void normalize(NormKind kind, const TensorView& x, const TensorView& weight, const TensorView& bias, double eps, TensorSpan y,
               ExecContext& ctx) {
  same_shape(x, y, "norm");
  require((weight.numel() == 0 || weight.numel() == x.cols()) && (bias.numel() == 0 || bias.numel() == x.cols()),
          ErrorCode::kInvalidInput, "norm: parameters do not have ", x.cols(), " elements");
  ctx.pool.parallel_for(x.rows(), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      normalize_row(kind, x.row(i), data_or_null(weight), data_or_null(bias), eps, y.row(i), x.cols());
  });
}

void activate(ActivationKind kind, const TensorView& x, TensorSpan y, ExecContext& ctx) {
  same_shape(x, y, "activation");
  const float* in = x.f32().data();
  float* out = y.f32().data();
  ctx.pool.parallel_for(x.numel(), kElementChunk, [&](std::int64_t begin, std::int64_t end) {
    if (kind == ActivationKind::kGelu) return gelu(in + begin, out + begin, end - begin);
    for (std::int64_t i = begin; i < end; ++i) out[i] = activate_one(kind, in[i]);
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

void gather_rows(const TensorView& table, std::span<const std::int32_t> ids, std::string_view what, TensorSpan y) {
  const std::int64_t n = table.rows();
  for (std::size_t t = 0; t < ids.size(); ++t) {
    require(ids[t] >= 0 && ids[t] < n, ErrorCode::kInvalidInput, what, " ", ids[t], " is outside the table of ", n,
            " rows; does the data belong to this model?");
    std::copy_n(table.row(ids[t]), table.cols(), y.row(static_cast<std::int64_t>(t)));
  }
}

void affine_columns(const TensorView& x, const TensorView& scale, const TensorView& shift, TensorSpan y, ExecContext& ctx) {
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

void inverse_affine_columns(const TensorView& x, const TensorView& scale, const TensorView& shift, TensorSpan y, ExecContext& ctx) {
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

}  // namespace quell
