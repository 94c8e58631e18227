#include "quell/ops/linear.h"

#include "quell/base/error.h"
#include "quell/kernels/sgemm/sgemm.h"

namespace quell {

void matmul_nt(const TensorView& x, const TensorView& w, const TensorView& bias, TensorSpan y, ExecContext& ctx) {
  const std::int64_t m = x.rows(), k = x.cols(), n = w.rows();
  require(w.cols() == k && y.rows() == m && y.cols() == n, ErrorCode::kInvalidInput, "linear: shapes ", x.shape().to_string(),
          " x ", w.shape().to_string(), "^T -> ", y.shape().to_string(), " do not fit");
  const std::int64_t chunk = m >= 1024 ? 256 : 64;
  ctx.pool.parallel_for(m, chunk, [&](std::int64_t begin, std::int64_t end) {
    kernels::sgemm(end - begin, n, k, 1.0F, x.row(begin), k, w.f32().data(), k, true, y.row(begin), n);
    if (bias.numel() == 0) return;
    const float* b = bias.f32().data();
    for (std::int64_t i = begin; i < end; ++i) {
      float* row = y.row(i);
      for (std::int64_t j = 0; j < n; ++j) row[j] += b[j];
    }
  });
}

void FloatLinear::forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const { matmul_nt(x, weight_, bias_, y, ctx); }

std::string FloatLinear::describe() const { return "f32 (oneDNN)"; }

void add_product(const TensorView& w, std::span<const float> x, std::span<float> bias) {
  for (std::int64_t j = 0; j < w.rows(); ++j) {
    double sum = 0;
    for (std::int64_t k = 0; k < w.cols(); ++k)
      sum += static_cast<double>(w.row(j)[k]) * static_cast<double>(x[static_cast<std::size_t>(k)]);
    float& b = bias[static_cast<std::size_t>(j)];
    b = static_cast<float>(static_cast<double>(b) + sum);
  }
}

}  // namespace quell
