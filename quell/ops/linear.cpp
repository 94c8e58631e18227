#include "quell/ops/linear.h"

#include <algorithm>
#include <vector>

#include "quell/base/bf16.h"
#include "quell/base/error.h"
#include "quell/kernels/sgemm/sgemm.h"

namespace quell {

void matmul_nt(const TensorView& x, const TensorView& w, const TensorView& bias, TensorSpan y,
               ExecContext& ctx) {
  const std::int64_t m = x.rows(), k = x.cols(), n = w.rows();
  require(w.cols() == k && y.rows() == m && y.cols() == n, ErrorCode::kInvalidInput,
          "linear: shapes ", x.shape().to_string(), " x ", w.shape().to_string(), "^T -> ",
          y.shape().to_string(), " do not fit");
  // oneDNN packs both operands of every call: blocks of rows and columns share that cost, and few
  // rows still feed all threads.
  constexpr std::int64_t kRows = 256, kColumns = 256;
  const std::int64_t row_blocks = (m + kRows - 1) / kRows,
                     column_blocks = (n + kColumns - 1) / kColumns;
  ctx.pool.parallel_for(row_blocks * column_blocks, 1, [&](std::int64_t block, std::int64_t) {
    const std::int64_t i0 = block / column_blocks * kRows, j0 = block % column_blocks * kColumns;
    const std::int64_t rows = std::min(kRows, m - i0), columns = std::min(kColumns, n - j0);
    kernels::sgemm(rows, columns, k, 1.0F, x.row(i0), k, w.row(j0), k, true, y.row(i0) + j0, n);
    if (bias.numel() == 0) return;
    const float* b = bias.f32().data();
    for (std::int64_t i = i0; i < i0 + rows; ++i)
      for (std::int64_t j = j0; j < j0 + columns; ++j) y.row(i)[j] += b[j];
  });
}

Tensor transposed(const TensorView& m) {
  Tensor out = Tensor::uninitialized(DType::kF32, {m.cols(), m.rows()});
  for (std::int64_t i = 0; i < m.rows(); ++i)
    for (std::int64_t j = 0; j < m.cols(); ++j) out.row(j)[i] = m.row(i)[j];
  return out;
}

void FloatLinear::forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const {
  matmul_nt(x, weight_, bias_, y, ctx);
}

std::string FloatLinear::describe() const { return "f32 (oneDNN)"; }

Bf16Linear::Bf16Linear(const TensorView& weight, TensorView bias)
    : weight_(kernels::pack_bf16(weight.f32().data(), weight.rows(), weight.cols())),
      bias_(std::move(bias)) {}

void Bf16Linear::forward(const TensorView& x, TensorSpan y, ExecContext& ctx) const {
  require(x.cols() == weight_.k && y.cols() == weight_.n && x.rows() == y.rows(),
          ErrorCode::kInvalidInput, "linear: shapes ", x.shape().to_string(), " -> ",
          y.shape().to_string(), " do not fit [", weight_.n, ", ", weight_.k, "]");
  // Of few rows memory is the limit; more are worth unpacking a few panels at a time for oneDNN.
  constexpr std::int64_t kFew = 4, kPanels = 4;
  const kernels::Bf16Kernels& k = kernels::bf16_kernels(ctx.isa);
  const float* bias = bias_.numel() ? bias_.f32().data() : nullptr;
  const std::int64_t m = x.rows(), depth = weight_.padded_k();
  std::vector<std::uint16_t> rounded;
  if (k.multiply_rounded) {
    rounded.resize(static_cast<std::size_t>(m * depth));
    ctx.pool.parallel_for(m, 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        std::transform(x.row(i), x.row(i) + weight_.k, rounded.data() + i * depth, f32_to_bf16);
    });
  }
  ctx.pool.parallel_for(weight_.panels(), kPanels, [&](std::int64_t begin, std::int64_t end) {
    if (k.multiply_rounded)
      return k.multiply_rounded(rounded.data(), m, weight_, bias, y.f32().data(), weight_.n, begin,
                                end);
    if (m <= kFew)
      return k.multiply(x.f32().data(), weight_.k, m, weight_, bias, y.f32().data(), weight_.n,
                        begin, end);
    thread_local std::vector<float> unpacked;
    for (std::int64_t p = begin; p < end; p += kPanels) {
      const std::int64_t last = std::min(end, p + kPanels),
                         width = (last - p) * kernels::kBf16Panel, column = p * kernels::kBf16Panel,
                         columns = std::min(width, weight_.n - column);
      unpacked.resize(static_cast<std::size_t>(weight_.k * width));
      k.unpack(weight_, p, last, unpacked.data());
      kernels::sgemm(m, columns, weight_.k, 1.0F, x.f32().data(), weight_.k, unpacked.data(), width,
                     false, y.f32().data() + column, weight_.n);
      for (std::int64_t i = 0; i < m && bias; ++i)
        for (std::int64_t j = column; j < column + columns; ++j) y.row(i)[j] += bias[j];
    }
  });
}

std::string Bf16Linear::describe() const { return "bf16 weights, f32 products"; }

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
