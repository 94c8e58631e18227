#include "quell/ops/attention.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/kernels/rows/rows.h"
#include "quell/kernels/sgemm/sgemm.h"

namespace quell {

std::vector<AttentionBlock> attention_blocks(const AttentionShape& shape, std::int64_t rows) {
  std::vector<AttentionBlock> out;
  for (std::size_t s = 0; s < shape.sequences.size(); ++s)
    for (std::int64_t h = 0; h < shape.num_heads; ++h)
      for (std::int64_t i = 0; i < shape.sequences[s].q_count; i += rows) {
        const std::int64_t end = std::min(shape.sequences[s].q_count, i + rows);
        out.push_back(
            {static_cast<std::int64_t>(s), h, i, end, shape.last_key(shape.sequences[s], end - 1)});
      }
  return out;
}

void soft_cap(std::span<float> scores, float cap, Isa isa) {
  for (float& s : scores) s /= cap;
  kernels::row_kernels(isa).activate(kernels::Activation::kTanh, scores.data(), scores.data(),
                                     static_cast<std::int64_t>(scores.size()));
  for (float& s : scores) s *= cap;
}

void attention(const AttentionShape& shape, const TensorView& q, const TensorView& k,
               const TensorView& v, std::span<const std::int32_t> mask, TensorSpan out,
               const ProbsHook& on_scores, const ProbsHook& on_probs, ExecContext& ctx) {
  const std::int64_t d = shape.head_dim, group = shape.num_heads / shape.num_kv_heads;
  require(q.cols() == shape.num_heads * d && k.cols() == shape.num_kv_heads * d &&
              v.rows() == k.rows() && v.cols() == k.cols() &&
              static_cast<std::int64_t>(mask.size()) == k.rows() && out.rows() == q.rows(),
          ErrorCode::kInvalidInput, "attention: shapes ", q.shape().to_string(), ", ",
          k.shape().to_string(), " do not fit");
  const kernels::RowKernels& rows = kernels::row_kernels(ctx.isa);
  const std::vector<AttentionBlock> blocks =
      attention_blocks(shape, on_scores || on_probs ? kAllRows : kAttentionRows);
  ctx.pool.parallel_for(
      static_cast<std::int64_t>(blocks.size()), 1, [&](std::int64_t begin, std::int64_t end) {
        std::vector<float> probs;
        for (std::int64_t at = begin; at < end; ++at) {
          const AttentionBlock& b = blocks[static_cast<std::size_t>(at)];
          const SequenceSpan& s = shape.sequences[static_cast<std::size_t>(b.sequence)];
          // Hooks see whole rows; otherwise keys that no query of the block may see are left out.
          const std::int64_t n = b.q_end - b.q_begin,
                             m = on_scores || on_probs ? s.k_count : b.keys, kv = b.head / group,
                             index = b.sequence * shape.num_heads + b.head,
                             q0 = s.q_begin + b.q_begin;
          probs.resize(static_cast<std::size_t>(n * m));
          kernels::sgemm(n, m, d, shape.scale, q.row(q0) + b.head * d, q.cols(),
                         k.row(s.k_begin) + kv * d, k.cols(), true, probs.data(), m);
          if (on_scores) on_scores(index, probs);
          if (shape.soft_cap > 0) soft_cap(probs, shape.soft_cap, ctx.isa);
          for (std::int64_t i = 0; i < n; ++i) {
            const std::int64_t last = shape.last_key(s, b.q_begin + i);
            float* row = probs.data() + i * m;
            rows.softmax(row, shape.first_key(last), last, m, mask.data() + s.k_begin,
                         {row, nullptr, {}});
          }
          if (on_probs) on_probs(index, probs);
          kernels::sgemm(n, d, m, 1.0F, probs.data(), m, v.row(s.k_begin) + kv * d, v.cols(), false,
                         out.row(q0) + b.head * d, out.cols());
        }
      });
}

RotaryTable make_rotary_table(std::span<const std::int32_t> positions,
                              std::span<const float> inv_freq, float amplitude, ExecContext& ctx) {
  const auto rows = static_cast<std::int64_t>(positions.size()),
             half = static_cast<std::int64_t>(inv_freq.size());
  RotaryTable table{Tensor::uninitialized(DType::kF32, {rows, half}),
                    Tensor::uninitialized(DType::kF32, {rows, half})};
  ctx.pool.parallel_for(rows, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t)
      for (std::int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(positions[static_cast<std::size_t>(t)]) *
                            inv_freq[static_cast<std::size_t>(i)];
        table.cosine.row(t)[i] = std::cos(angle) * amplitude;
        table.sine.row(t)[i] = std::sin(angle) * amplitude;
      }
  });
  return table;
}

void rotate(TensorSpan x, std::int64_t head_dim, const RotaryTable& table, ExecContext& ctx) {
  const std::int64_t half = table.cosine.cols(), heads = x.cols() / head_dim;
  require(2 * half <= head_dim && table.cosine.rows() == x.rows(), ErrorCode::kInvalidInput,
          "rotary embedding: sizes do not fit");
  ctx.pool.parallel_for(x.rows(), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const float *c = table.cosine.row(t), *s = table.sine.row(t);
      for (std::int64_t h = 0; h < heads; ++h) {
        float* p = x.row(t) + h * head_dim;
        for (std::int64_t i = 0; i < half; ++i) {
          const float a = p[i], b = p[i + half];
          p[i] = a * c[i] - b * s[i];
          p[i + half] = b * c[i] + a * s[i];
        }
      }
    }
  });
}

}  // namespace quell
