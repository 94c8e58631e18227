#include "quell/compress/gptq.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "quell/base/error.h"
#include "quell/ops/linear.h"
#include "quell/quant/quantize.h"
#include "quell/quant/rounding.h"

namespace quell {
namespace {

constexpr std::int64_t kRows = 16;  // of a weight share a row of U or H while it is in the cache

/// a[n, n] (lower triangle) becomes its Cholesky factor; blocks of columns, each row of the rest
/// updated by one thread.
void cholesky(std::vector<double>& a, std::int64_t n, ExecContext& ctx) {
  constexpr std::int64_t kBlock = 64;
  const auto at = [&](std::int64_t i, std::int64_t j) -> double& {
    return a[static_cast<std::size_t>(i * n + j)];
  };
  std::vector<double> transposed(static_cast<std::size_t>(kBlock * n));
  for (std::int64_t b = 0; b < n; b += kBlock) {
    const std::int64_t e = std::min(n, b + kBlock);
    for (std::int64_t j = b; j < e; ++j) {
      for (std::int64_t k = b; k < j; ++k) at(j, j) -= at(j, k) * at(j, k);
      require(at(j, j) > 0, ErrorCode::kNumeric,
              "gptq: inputs do not determine the weights; raise damping");
      at(j, j) = std::sqrt(at(j, j));
      for (std::int64_t i = j + 1; i < e; ++i) {
        for (std::int64_t k = b; k < j; ++k) at(i, j) -= at(i, k) * at(j, k);
        at(i, j) /= at(j, j);
      }
    }
    ctx.pool.parallel_for(n - e, 16, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = e + first; i < e + last; ++i)
        for (std::int64_t j = b; j < e; ++j) {
          for (std::int64_t k = b; k < j; ++k) at(i, j) -= at(i, k) * at(j, k);
          at(i, j) /= at(j, j);
          transposed[static_cast<std::size_t>((j - b) * n + i)] = at(i, j);
        }
    });
    ctx.pool.parallel_for(n - e, 16, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = e + first; i < e + last; ++i)
        for (std::int64_t k = b; k < e; ++k) {
          const double factor = at(i, k), *column = transposed.data() + (k - b) * n;
          for (std::int64_t j = e; j <= i; ++j) at(i, j) -= factor * column[j];
        }
    });
  }
}

/// The inverse of the lower triangular l[n, n]; columns in parallel.
std::vector<double> inverse_of_lower(const std::vector<double>& l, std::int64_t n,
                                     ExecContext& ctx) {
  std::vector<double> x(static_cast<std::size_t>(n * n));
  ctx.pool.parallel_for(n, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < n; ++i) {
      double* row = x.data() + i * n;
      if (i < end) row[i] = 1.0;
      for (std::int64_t k = begin; k < i; ++k) {
        const double factor = l[static_cast<std::size_t>(i * n + k)], *from = x.data() + k * n;
        for (std::int64_t j = begin; j < end; ++j) row[j] -= factor * from[j];
      }
      for (std::int64_t j = begin; j < end; ++j) row[j] /= l[static_cast<std::size_t>(i * n + i)];
    }
  });
  return x;
}

/// What is added to the diagonal of the Gram matrix.
double added_to_diagonal(const Tensor& gram, double damping) {
  const std::int64_t n = gram.rows();
  double mean = 0;
  for (std::int64_t i = 0; i < n; ++i)
    mean += static_cast<double>(gram.row(i)[i]) / static_cast<double>(n);
  require(mean > 0 && std::isfinite(mean), ErrorCode::kNumeric,
          "gptq: all inputs are 0, or not finite");
  return damping * mean;
}

}  // namespace

GptqFactor make_gptq_factor(const Tensor& gram, double damping, bool by_size, ExecContext& ctx) {
  const std::int64_t n = gram.rows();
  GptqFactor out;
  out.order.resize(static_cast<std::size_t>(n));
  std::iota(out.order.begin(), out.order.end(), 0);
  if (by_size)
    std::stable_sort(out.order.begin(), out.order.end(), [&](std::int64_t a, std::int64_t b) {
      return gram.row(a)[a] > gram.row(b)[b];
    });
  const double added = added_to_diagonal(gram, damping);
  // With the columns reversed, H = L L^T; then U is the inverse of L, reversed again.
  const auto reversed = [&](std::int64_t i) {
    return out.order[static_cast<std::size_t>(n - 1 - i)];
  };
  std::vector<double> h(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j <= i; ++j)
      h[static_cast<std::size_t>(i * n + j)] =
          static_cast<double>(gram.row(reversed(i))[reversed(j)]);
    h[static_cast<std::size_t>(i * n + i)] += added;
  }
  cholesky(h, n, ctx);
  const std::vector<double> inverse = inverse_of_lower(h, n, ctx);
  out.upper = Tensor::f32({n, n});
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = i; j < n; ++j)
      out.upper.row(i)[j] =
          static_cast<float>(inverse[static_cast<std::size_t>((n - 1 - i) * n + n - 1 - j)]);
  return out;
}

QTensor gptq_round(const TensorView& w, QTensor q, const GptqFactor& factor, ExecContext& ctx) {
  const QuantSpec spec = q.spec;
  const std::int64_t n = w.rows(), c = w.cols(), groups = q.qparams.scale.numel();
  const bool grouped = spec.granularity == Granularity::kPerGroup;
  const std::int64_t per_row = grouped ? c / spec.group_size : 1;
  const auto low = static_cast<float>(spec.min_code()), high = static_cast<float>(spec.max_code());
  ctx.pool.parallel_for(n, kRows, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> left(
        static_cast<std::size_t>((end - begin) * c));  // in the order of rounding
    for (std::int64_t r = begin; r < end; ++r)
      for (std::int64_t k = 0; k < c; ++k)
        left[static_cast<std::size_t>((r - begin) * c + k)] =
            w.row(r)[factor.order[static_cast<std::size_t>(k)]];
    for (std::int64_t k = 0; k < c; ++k) {
      const float* u = factor.upper.row(k);
      const std::int64_t column = factor.order[static_cast<std::size_t>(k)];
      for (std::int64_t r = begin; r < end; ++r) {
        float* row = left.data() + (r - begin) * c;
        const auto step = static_cast<std::size_t>(
            groups == 1 ? 0 : r * per_row + (grouped ? column / spec.group_size : 0));
        if (grouped && column % spec.group_size == 0) {
          const auto [least, most] = std::minmax_element(row + k, row + k + spec.group_size);
          const StepAndZero fresh = calculate_qparams({*least, *most}, spec);
          q.qparams.scale.f32()[step] = fresh.scale;
          q.qparams.zero_point.as<std::int32_t>()[step] = fresh.zero_point;
        }
        const StepAndZero qp = q.qparams.at(static_cast<std::int64_t>(step));
        const auto zero = static_cast<float>(qp.zero_point);
        const float code = std::clamp(round_half_even(row[k] / qp.scale) + zero, low, high);
        q.codes.as<std::int16_t>()[static_cast<std::size_t>(r * c + column)] =
            static_cast<std::int16_t>(code);
        const float error = (row[k] - (code - zero) * qp.scale) / u[k];
        for (std::int64_t j = k + 1; j < c; ++j) row[j] -= error * u[j];
      }
    }
  });
  return q;
}

QTensor descend_codes(const TensorView& w, QTensor q, const Tensor& gram, double damping,
                      std::int64_t sweeps, ExecContext& ctx) {
  const std::int64_t n = w.rows(), c = w.cols(), groups = q.qparams.scale.numel();
  const std::int64_t group_size =
      q.spec.granularity == Granularity::kPerGroup ? q.spec.group_size : c;
  const auto low = static_cast<float>(q.spec.min_code()),
             high = static_cast<float>(q.spec.max_code());
  const auto added = static_cast<float>(added_to_diagonal(gram, damping));
  Tensor error = dequantize(q),
         slope = Tensor::f32({n, c});  // half the gradient of the rows' errors, error H
  for (std::size_t i = 0; i < error.f32().size(); ++i) error.f32()[i] -= w.f32()[i];
  matmul_nt(error, gram, TensorView(), slope.span(), ctx);
  for (std::size_t i = 0; i < error.f32().size(); ++i) slope.f32()[i] += added * error.f32()[i];
  ctx.pool.parallel_for(n, kRows, [&](std::int64_t begin, std::int64_t end) {
    bool moved = true;
    for (std::int64_t sweep = 0; sweep < sweeps && moved; ++sweep) {
      moved = false;
      for (std::int64_t k = 0; k < c; ++k) {
        const float* h = gram.row(k);
        const float curvature = h[k] + added;
        for (std::int64_t r = begin; r < end; ++r) {
          const float step =
              q.qparams.scale
                  .f32()[static_cast<std::size_t>(groups == 1 ? 0 : (r * c + k) / group_size)];
          float* g = slope.row(r);
          const float least =
              -g[k] /
              (curvature * step);  // in codes from here; a dead column's 0 / 0 is no move either
          constexpr float kWorth =
              0.501F;  // at 0.5 both codes are as good, and rounding errors would decide
          if (!(std::fabs(least) > kWorth)) continue;
          std::int16_t& code = q.codes.as<std::int16_t>()[static_cast<std::size_t>(r * c + k)];
          const float next =
              std::clamp(static_cast<float>(code) + round_half_even(least), low, high);
          const float move = (next - static_cast<float>(code)) * step;
          if (move == 0) continue;
          moved = true;
          code = static_cast<std::int16_t>(next);
          for (std::int64_t j = 0; j < c; ++j) g[j] += move * h[j];
          g[k] += move * added;
        }
      }
    }
  });
  return q;
}

}  // namespace quell
