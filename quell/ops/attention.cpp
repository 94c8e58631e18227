#include "quell/ops/attention.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "quell/base/error.h"
#include "quell/kernels/sgemm/sgemm.h"

namespace quell {
namespace {

/// exp within 3e-7 relative for x in [-87, 0]: 2^n times a polynomial on [-ln2/2, ln2/2]; 0 below. Vectorizes, unlike the
/// library's.
float fast_exp(float x) {
  const float clamped = std::max(x, -87.0F);
  constexpr float kMagic = 12582912.0F;
  const float n = (clamped * 1.44269504F + kMagic) - kMagic;
  const float r = (clamped - n * 0.693359375F) + n * 2.12194440e-4F;  // ln 2 in two parts
  const float p =
      1.0F + r * (1.0F + r * (0.5F + r * (0.166666667F + r * (0.0416666667F + r * (0.00833333333F + r * 0.00138888889F)))));
  const float scaled = p * std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
  return x < -87.0F ? 0.0F : scaled;
}

/// Softmax over the keys [begin, end) whose mask is 1; the others become 0.
void masked_softmax(float* row, std::int64_t begin, std::int64_t end, std::int64_t n, const std::int32_t* mask) {
  float high = -INFINITY;
  for (std::int64_t j = begin; j < end; ++j)
    if (mask[j]) high = std::max(high, row[j]);
  if (high == -INFINITY) {  // nothing to attend to (or NaN scores, which the caller's checks report)
    std::fill_n(row, n, 1.0F / static_cast<float>(n));
    return;
  }
  float sum = 0.0F;
  std::fill(row, row + begin, 0.0F);
  for (std::int64_t j = begin; j < end; ++j) row[j] = mask[j] ? fast_exp(row[j] - high) : 0.0F;
  std::fill(row + end, row + n, 0.0F);
  for (std::int64_t j = begin; j < end; ++j) sum += row[j];
  for (std::int64_t j = 0; j < n; ++j) row[j] /= sum;
}

}  // namespace

void attention(const AttentionShape& shape, const TensorView& q, const TensorView& k, const TensorView& v,
               std::span<const std::int32_t> mask, TensorSpan out, const ProbsHook& on_scores, const ProbsHook& on_probs,
               ExecContext& ctx) {
  const std::int64_t n = shape.length, m = shape.key_length, d = shape.head_dim, group = shape.num_heads / shape.num_kv_heads;
  require(q.rows() == shape.batch * n && q.cols() == shape.num_heads * d && k.rows() == shape.batch * m &&
              k.cols() == shape.num_kv_heads * d && v.rows() == k.rows() && v.cols() == k.cols() &&
              static_cast<std::int64_t>(mask.size()) == shape.batch * m,
          ErrorCode::kInvalidInput, "attention: shapes ", q.shape().to_string(), ", ", k.shape().to_string(), " do not fit");
  ctx.pool.parallel_for(shape.batch * shape.num_heads, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> probs(static_cast<std::size_t>(n * m));
    for (std::int64_t index = begin; index < end; ++index) {
      const std::int64_t b = index / shape.num_heads, h = index % shape.num_heads, kv = h / group;
      kernels::sgemm(n, m, d, shape.scale, q.row(b * n) + h * d, q.cols(), k.row(b * m) + kv * d, k.cols(), true, probs.data(), m);
      if (on_scores) on_scores(index, probs);
      if (shape.soft_cap > 0)
        for (float& s : probs) s = shape.soft_cap * std::tanh(s / shape.soft_cap);
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t last = shape.causal ? i + 1 : m,
                           first = shape.window > 0 ? std::max<std::int64_t>(0, last - shape.window) : 0;
        masked_softmax(probs.data() + i * m, first, last, m, mask.data() + b * m);
      }
      if (on_probs) on_probs(index, probs);
      kernels::sgemm(n, d, m, 1.0F, probs.data(), m, v.row(b * m) + kv * d, v.cols(), false, out.row(b * n) + h * d, out.cols());
    }
  });
}

void rotate(TensorSpan x, std::int64_t head_dim, std::span<const std::int32_t> positions, std::span<const float> inv_freq,
            float amplitude, ExecContext& ctx) {
  const std::int64_t half = static_cast<std::int64_t>(inv_freq.size()), heads = x.cols() / head_dim;
  require(2 * half <= head_dim && static_cast<std::int64_t>(positions.size()) == x.rows(), ErrorCode::kInvalidInput,
          "rotary embedding: sizes do not fit");
  ctx.pool.parallel_for(x.rows(), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t)
      for (std::int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(positions[static_cast<std::size_t>(t)]) * inv_freq[static_cast<std::size_t>(i)];
        const float c = std::cos(angle) * amplitude, s = std::sin(angle) * amplitude;
        for (std::int64_t h = 0; h < heads; ++h) {
          float* p = x.row(t) + h * head_dim + i;
          const float a = p[0], b = p[half];
          p[0] = a * c - b * s;
          p[half] = b * c + a * s;
        }
      }
  });
}

}  // namespace quell
