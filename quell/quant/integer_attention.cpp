#include "quell/quant/integer_attention.h"

#include <algorithm>

#include "quell/kernels/gemm_s8/gemm_s8.h"
#include "quell/kernels/rows/rows.h"

namespace quell {
namespace {

using kernels::Epilogue;
using kernels::PackedWeights;

/// Zero point of the stored u8 codes.
std::int32_t stored_zero(const ActivationQuant& q) {
  return q.qparams.zero_point + code_shift(q.spec);
}

/// One side of a product that plays the weights: packed codes and the epilogue vectors that go with
/// them.
struct PackedOperand {
  PackedWeights packed;
  std::vector<float> scale, bias;
  std::vector<std::int32_t> offset, weight_zero;
  bool asymmetric = false;

  /// `step`: of the product; `other_zero`: stored zero point of the activations' side.
  void pack(const QuantizedRows& x, std::int64_t row, std::int64_t column, std::int64_t n,
            std::int64_t k, bool transposed, const kernels::GemmS8Kernel& kernel, float step,
            std::int32_t other_zero) {
    const std::int32_t shift = 1 << (x.quant.spec.num_bits - 1),
                       zero = stored_zero(x.quant) - shift;
    kernels::pack_activations(x.row(row) + column, x.stride, n, k, transposed, shift, kernel.layout,
                              packed);
    const auto padded = static_cast<std::size_t>(packed.padded_n());
    scale.assign(padded, step);
    bias.assign(padded, 0.0F);
    offset.resize(padded);
    for (std::size_t j = 0; j < padded; ++j) offset[j] = -other_zero * packed.row_sum[j];
    asymmetric = zero != 0;
    weight_zero.assign(padded, zero);
  }
  Epilogue epilogue(const std::vector<std::int32_t>& row_term) const {
    Epilogue e;
    e.scale = scale.data();
    e.bias = bias.data();
    e.column_offset = offset.data();
    if (asymmetric) {
      e.row_term = row_term.data();
      e.weight_zero = weight_zero.data();
    }
    return e;
  }
};

/// What one thread needs; grows to the largest call.
struct Scratch {
  PackedOperand keys, values;
  std::vector<float> scores;
  std::vector<std::uint8_t> probs;
  std::vector<std::int32_t> q_term, p_term;
};

class Runner {
 public:
  Runner(const IntegerAttentionCall& call, ExecContext& ctx)
      : c_(call), s_(call.shape), rows_(kernels::row_kernels(ctx.isa)), isa_(ctx.isa) {
    const Isa isa = call.exact_simulation ? Isa::kPortable : ctx.isa;
    const auto choose = [&](const ActivationQuant& x, const ActivationQuant& w) {
      return &kernels::choose_gemm_s8(isa, x.spec.max_code() + code_shift(x.spec),
                                      1 << (w.spec.num_bits - 1));
    };
    scores_kernel_ = choose(call.q.quant, call.k.quant);
    output_kernel_ = choose(call.probs, call.v.quant);
  }

  /// All queries of one sequence and head.
  void run(std::int64_t index, Scratch& scratch) const {
    const std::int64_t head = index % s_.num_heads, d = s_.head_dim,
                       kv = head / (s_.num_heads / s_.num_kv_heads) * d;
    const SequenceSpan& span = s_.sequences[static_cast<std::size_t>(index / s_.num_heads)];
    const float s_q = c_.q.quant.qparams.scale, s_k = c_.k.quant.qparams.scale,
                s_v = c_.v.quant.qparams.scale;
    scratch.keys.pack(c_.k, span.k_begin, kv, span.k_count, d, false, *scores_kernel_,
                      s_q * s_k * s_.scale, stored_zero(c_.q.quant));
    scratch.values.pack(c_.v, span.k_begin, kv, d, span.k_count, true, *output_kernel_,
                        c_.probs.qparams.scale * s_v, stored_zero(c_.probs));
    const std::int64_t block = c_.on_scores ? span.q_count : kAttentionRows;
    for (std::int64_t i = 0; i < span.q_count; i += block)
      run_block(index, span, i, std::min(span.q_count, i + block), scratch);
  }

 private:
  void run_block(std::int64_t index, const SequenceSpan& span, std::int64_t begin, std::int64_t end,
                 Scratch& scratch) const {
    const std::int64_t head = index % s_.num_heads, d = s_.head_dim, n = end - begin,
                       q0 = span.q_begin + begin;
    const std::int64_t seen = c_.on_scores ? span.k_count : s_.last_key(span, end - 1),
                       m = span.k_count;
    const std::uint8_t* q = c_.q.row(q0) + head * d;
    scratch.q_term.assign(static_cast<std::size_t>(n), 0);
    if (scratch.keys.asymmetric)
      for (std::int64_t i = 0; i < n; ++i)
        scratch.q_term[static_cast<std::size_t>(i)] = row_term(q + i * c_.q.stride, d, c_.q.quant);
    scratch.scores.resize(static_cast<std::size_t>(n * m));
    Epilogue e = scratch.keys.epilogue(scratch.q_term);
    e.f32 = scratch.scores.data();
    e.ld_out = m;
    scores_kernel_->run(q, c_.q.stride, scratch.keys.packed, e, 0, n, 0,
                        (seen + kernels::kPanel - 1) / kernels::kPanel);
    if (c_.on_scores) c_.on_scores(index, {scratch.scores.data(), static_cast<std::size_t>(n * m)});
    if (s_.soft_cap > 0)
      soft_cap({scratch.scores.data(), static_cast<std::size_t>(n * m)}, s_.soft_cap, isa_);

    const std::int64_t ldp = kernels::code_stride(m);
    scratch.probs.resize(static_cast<std::size_t>(n * ldp));
    scratch.p_term.resize(static_cast<std::size_t>(n));
    // Keys that no query of the block sees have probability 0; where its code is 0, sums stop
    // there.
    const std::int64_t used =
        stored_zero(c_.probs) == 0 ? std::min(m, kernels::round_up(seen, kernels::kPackedK)) : m;
    const auto zero = static_cast<std::int32_t>(used) * stored_zero(c_.probs);
    const kernels::CodeArgs args = code_args(c_.probs.spec, c_.probs.qparams);
    const std::int32_t* mask = sees_all(span) ? nullptr : c_.mask.data() + span.k_begin;
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t last = s_.last_key(span, begin + i);
      const std::int32_t sum =
          rows_.softmax(scratch.scores.data() + i * m, s_.first_key(last), last, used, mask,
                        {nullptr, scratch.probs.data() + i * ldp, args});
      scratch.p_term[static_cast<std::size_t>(i)] = zero - sum;
    }
    e = scratch.values.epilogue(scratch.p_term);
    scratch.values.packed.used_k = kernels::round_up(used, kernels::kPackedK);
    if (c_.codes) {
      e.codes = c_.codes->row(q0) + head * d;
      e.ld_out = c_.codes->stride;
      e.code_args = code_args(c_.codes->quant.spec, c_.codes->quant.qparams);
      if (c_.code_scale) e.code_scale = c_.code_scale + head * d;
      if (c_.code_shift) e.code_shift = c_.code_shift + head * d;
    } else {
      e.f32 = c_.f32 + (q0 * s_.num_heads + head) * d;
      e.ld_out = s_.num_heads * d;
    }
    output_kernel_->run(scratch.probs.data(), ldp, scratch.values.packed, e, 0, n, 0,
                        scratch.values.packed.padded_n() / kernels::kPanel);
  }

  bool sees_all(const SequenceSpan& span) const {
    const auto begin = c_.mask.begin() + span.k_begin;
    return std::find(begin, begin + span.k_count, 0) == begin + span.k_count;
  }

  /// K z - sum of the codes.
  static std::int32_t row_term(const std::uint8_t* codes, std::int64_t n,
                               const ActivationQuant& quant) {
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += codes[i];
    return static_cast<std::int32_t>(n) * stored_zero(quant) - sum;
  }

  const IntegerAttentionCall& c_;
  const AttentionShape& s_;
  const kernels::RowKernels& rows_;
  Isa isa_;
  const kernels::GemmS8Kernel *scores_kernel_, *output_kernel_;
};

}  // namespace

void integer_attention(const IntegerAttentionCall& call, ExecContext& ctx) {
  const Runner runner(call, ctx);
  const auto count = static_cast<std::int64_t>(call.shape.sequences.size()) * call.shape.num_heads;
  ctx.pool.parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
    thread_local Scratch scratch;
    for (std::int64_t i = begin; i < end; ++i) runner.run(i, scratch);
  });
}

}  // namespace quell
